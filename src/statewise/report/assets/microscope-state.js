// The chosen state: the whole prefix, its numbers, and what three policies would say next.

const MEASURES = {
  kl_to_base: ["KL to base", "kl(student || base) at the state, nats"],
  owner: ["owner", "who chose the token"],
  weight: ["weight", "supervision weight of the state"],
  gap: ["teacher-student gap", "log pi_teacher - log pi_student of the token, nats; blue: the teacher wants more of it"],
  entropy: ["entropy", "of the student's next-token distribution, nats"],
  advantage: ["advantage", "of the token; blue: made likelier"],
};

/** Who an owner is, for its colour: `teacher:x@40` is a teacher. */
function ownerKind(owner) {
  return owner.split(/[:@]/, 1)[0];
}

/** A probability as a percentage. */
function percent(p) {
  return `${(100 * p).toFixed(1)} %`;
}

/** What a policy would say next, as a list with bars; `chosen` is the token that stands there, as an index. */
function nextTokens(title, top, chosen) {
  const part = element("div", { class: "policy" }, element("h4", {}, title));
  if (!top) {
    part.append(element("p", { class: "fine" }, "none here"));
    return part;
  }
  const list = element("ol");
  let rest = 1;
  for (const { text, p, index } of top) {
    rest -= p;
    const bar = element("span", { class: "barfill" });
    bar.style.width = `${Math.max(100 * p, 0.4)}%`; // set by script: the page's policy allows no style attribute
    list.append(element(
      "li",
      { class: index === chosen ? "chosen" : null },
      element("bdi", { class: "word" }, ...spaced(text)),
      element("span", { class: "bartrack", "aria-hidden": "true" }, bar),
      element("span", { class: "p" }, percent(p)),
    ));
  }
  part.append(list, element("p", { class: "fine" }, `all others ${percent(Math.max(0, rest))}`));
  return part;
}

/** Fill `panel` with the state before token `t` of a completion. */
function showState(panel, { prompt, arm, teacher, rollout, t }) {
  const kind = rollout.kind === "own" ? "its own completion" : "a completion that it is trained on";
  const title = element(
    "h3",
    {},
    "State before token ",
    element("b", {}, `${t + 1}`),
    ` of ${rollout.length}`,
    element("small", {}, `${arm}, ${kind}`),
  );
  const token = element("p", { class: "token-line" }, "The token here is ", element("bdi", { class: "tok big" }, ...spaced(rollout.token(t))));
  const numbers = element("dl", { class: "numbers" });
  const add = (name, value) => numbers.append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  add("owner", rollout.owner(t));
  for (const name of ["weight", "logprob", "kl_to_base", "gap", "entropy", "advantage"]) {
    const value = rollout.number(name, t);
    if (value !== null) add(MEASURES[name]?.[0] ?? "log-prob", figure(value, name === "kl_to_base" ? 4 : 3));
  }
  const kept = rollout.first(t);
  if (kept) add("base's first token", `${percent(kept.before)} → ${kept.listed ? "" : "at most "}${percent(kept.after)}`);
  const tops = element("div", { class: "tops" });
  for (const policy of POLICIES) {
    const name = policy === "teacher" && teacher ? `teacher (${teacher})` : policy;
    tops.append(nextTokens(name, rollout.top(policy, t), rollout.index(t)));
  }
  const before = element("bdi", { class: "written" });
  for (let i = 0; i < t; i += 1) {
    before.append(element("span", { class: "piece" }, ...spaced(rollout.token(i))), ...(rollout.token(i).includes("\n") ? ["\n"] : []));
  }
  const prefix = element(
    "pre",
    { class: "prefix", tabindex: "0", role: "region", "aria-label": "The state: prompt and tokens so far" },
    element("bdi", { class: "given" }, visible(prompt.text)),
    before,
    element("mark", { class: "piece" }, element("bdi", {}, ...spaced(rollout.token(t)))),
  );
  panel.replaceChildren(title, prefix, token, tops, numbers);
  prefix.scrollTop = prefix.scrollHeight;
}
