// Every run as it stands: asked for again two seconds after each answer, while the page is looked at.
{
  const PAUSE = 2000;
  const SVG = "http://www.w3.org/2000/svg";
  const seen = {};
  const pulse = document.getElementById("pulse");

  const shape = (tag, attributes, text) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text) made.textContent = text;
    return made;
  };

  const progress = (arms) => {
    const seeds = [...new Set(arms.flatMap((arm) => arm.seeds.map((s) => s.seed)))];
    const every = arms.flatMap((arm) => arm.seeds);
    const done = every.filter((s) => s.state === "done").length;
    const head = element("tr", {}, element("th", { scope: "col" }, "arm"), ...seeds.map((seed) => element("th", { scope: "col", class: "word" }, `seed ${seed}`)));
    const cell = (state) => {
      if (!state) return element("td");
      const running = state.state === "training";
      const steps = running ? ` ${state.step}${state.steps ? `/${state.steps}` : ""}` : "";
      const made = element("td", { class: state.state }, `${state.state === "done" ? "✓ " : ""}${state.state}${steps}`);
      if (running && state.steps) {
        const bar = element("span");
        bar.style.width = `${(100 * state.step) / state.steps}%`;
        made.append(element("span", { class: "bar-of", "aria-hidden": "true" }, bar));
      }
      return made;
    };
    const rows = arms.map((arm) => element("tr", {}, element("th", { scope: "row" }, ...breakable(arm.name)),
      ...seeds.map((seed) => cell(arm.seeds.find((s) => s.seed === seed)))));
    return [
      element("p", { class: "total" }, `${done} of ${every.length} done`),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Progress by arm and seed" },
        element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))),
    ];
  };

  /** One arm's curve: the dev score where there is one, else the loss. */
  const curve = (arm, quantity, range) => {
    const [left, top, width, height] = [34, 8, 200, 84];
    const lines = arm.seeds.map((s) => s.curves[quantity]).filter(Boolean);
    const most = Math.max(...lines.flatMap((points) => points.map(([step]) => step)), 1);
    const [low, high] = range;
    const x = (step) => left + (step / most) * width;
    const y = (value) => top + height - ((value - low) / (high - low || 1)) * height;
    const last = lines.map((points) => points.at(-1)[1]);
    const said = `${arm.name}, ${quantity}: ${last.map((v) => figure(v)).join(", ")} at step ${most}`;
    const picture = shape("svg", { viewBox: `0 0 ${left + width + 6} ${top + height + 16}`, role: "img", "aria-label": said });
    for (const value of [low, high]) {
      picture.append(shape("line", { x1: left, x2: left + width, y1: y(value), y2: y(value) }));
      picture.append(shape("text", { x: left - 4, y: y(value) + 4, "text-anchor": "end" }, figure(value, 2)));
    }
    picture.append(shape("text", { x: left + width, y: top + height + 14, "text-anchor": "end" }, `step ${most}`));
    for (const points of lines) {
      picture.append(shape("polyline", { points: points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ") }));
    }
    return element("figure", {}, picture, element("figcaption", {}, arm.name));
  };

  const curves = (arms) => {
    const shown = arms.filter((arm) => arm.seeds.some((s) => Object.keys(s.curves).length));
    if (!shown.length) return [element("p", { class: "missing" }, "Nothing has trained yet.")];
    const names = new Set(shown.flatMap((arm) => arm.seeds.flatMap((s) => Object.keys(s.curves))));
    const quantity = [...names].find((name) => name !== "loss") ?? "loss";
    const having = shown.filter((arm) => arm.seeds.some((s) => s.curves[quantity]));
    const values = having.flatMap((arm) => arm.seeds.flatMap((s) => (s.curves[quantity] ?? []).map(([, value]) => value)));
    const range = [Math.min(...values), Math.max(...values)];
    return [element("p", { class: "fine" }, `${quantity}${quantity === "loss" ? "" : " on the dev split"}, a line a seed, one scale for all arms`), ...having.map((arm) => curve(arm, quantity, range))];
  };

  const judge = async (section, name) => {
    const answer = await fetch(`/runs/${name}/verdicts.json`);
    const list = section.querySelector(".verdicts");
    if (!answer.ok) { list.replaceChildren(element("li", { class: "missing" }, await answer.text())); return; }
    const found = await answer.json();
    const marks = { supported: "✓ Supported", contradicted: "✗ Contradicted", undecided: "? Undecided" };
    list.replaceChildren(...(found.length ? found : [{ verdict: "", text: "The study makes no claim.", sentence: "" }]).map((v) => (
      element("li", { class: "verdict" },
        element("span", { class: v.verdict ? `chip ${v.verdict}` : null }, marks[v.verdict] ?? ""),
        element("div", {}, element("strong", {}, v.text), element("p", {}, v.asked ? `Asked for: ${v.asked}. ${v.sentence}` : v.sentence)))
    )));
  };

  const draw = (section, name, state) => {
    const text = JSON.stringify(state.arms ?? state);
    if (seen[name]?.text === text) return;
    const measured = seen[name]?.measured;
    seen[name] = { text, measured: state.measured };
    if (state.error) {
      section.querySelector(".progress").replaceChildren(element("p", { class: "missing" }, state.error));
      return;
    }
    section.querySelector(".question").textContent = state.question;
    section.querySelector(".progress").replaceChildren(...progress(state.arms));
    const [note, ...figures] = curves(state.arms);
    section.querySelector(".curves").replaceChildren(...figures);
    section.querySelector(".curves").previousElementSibling.replaceChildren("Learning curves ", element("small", { class: "fine" }, note.textContent));
    if (measured !== state.measured) judge(section, name);
  };

  const ask = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch("/status.json");
        const runs = await answer.json();
        for (const section of document.querySelectorAll(".run")) draw(section, section.dataset.run, runs[section.dataset.run]);
        const idle = Math.min(...Object.values(runs).map((run) => run.idle_seconds ?? Infinity));
        pulse.textContent = idle < 60 ? "live: a run is being written" : "nothing written for a while";
      } catch {
        pulse.textContent = "the server does not answer; start it again";
      }
    }
    setTimeout(ask, PAUSE);
  };
  ask();
}
