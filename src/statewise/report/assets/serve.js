// The status of every run: the server sends it after each change, while the page is visible.
{
  const RETRY = 3000;
  const seen = {};
  const pulse = document.getElementById("pulse");

  const progress = (arms) => {
    const seeds = [...new Set(arms.flatMap((arm) => arm.seeds.map((s) => s.seed)))];
    const every = arms.flatMap((arm) => arm.seeds);
    const done = every.filter((s) => s.state === "done").length;
    const failed = every.filter((s) => s.state === "failed").length;
    const head = element("tr", {}, element("th", { scope: "col" }, "arm"), ...seeds.map((seed) => element("th", { scope: "col", class: "word" }, `seed ${seed}`)));
    const cell = (state) => {
      if (!state) return element("td");
      const running = state.state === "training";
      const steps = running ? ` ${state.step}${state.steps ? `/${state.steps}` : ""}` : "";
      const made = element("td", { class: state.state === "not run" ? "waiting" : state.state }, `${{ done: "✓ ", failed: "✗ " }[state.state] ?? ""}${state.state}${steps}`);
      if (running && state.steps) {
        const bar = element("span");
        bar.style.width = `${(100 * state.step) / state.steps}%`;
        made.append(element("span", { class: "bar-of", "aria-hidden": "true" }, bar));
      }
      if (state.why) made.append(element("small", {}, `: ${state.why}`));
      return made;
    };
    const rows = arms.map((arm) => element("tr", {}, element("th", { scope: "row" }, ...breakable(arm.name)),
      ...seeds.map((seed) => cell(arm.seeds.find((s) => s.seed === seed)))));
    return [
      element("p", { class: "total" }, `${done} of ${every.length} done${failed ? `, ${failed} failed` : ""}`),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Progress by arm and seed" },
        element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))),
    ];
  };

  const ago = (seconds) => (seconds < 90 ? `${seconds} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`);
  const STANDING = {
    live: (idle) => (idle < 60 ? "live" : `live, nothing written for ${ago(idle)}`),
    finished: () => "finished",
    stalled: (idle) => `stalled: nothing written for ${ago(idle)}`,
  };
  const LOOK = { live: "supported", finished: "done", stalled: "undecided", broken: "contradicted" };
  const stand = (section, state) => {
    const chip = section.querySelector(".standing");
    const found = state.error ? "broken" : state.state;
    chip.className = `standing chip ${LOOK[found]}`;
    chip.textContent = state.error ? "cannot be read" : STANDING[found](state.idle_seconds);
  };

  const judge = async (section, name) => {
    const points = await fetch(`/runs/${name}/scores.json`);
    if (points.ok) { Together.points[name] = await points.json(); Together.draw(); }
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
    stand(section, state);
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
    if (measured !== state.measured) judge(section, name);
  };

  const show = (runs) => {
    for (const section of document.querySelectorAll(".run")) draw(section, section.dataset.run, runs[section.dataset.run]);
    Together.show(runs);
    const count = (wanted) => Object.values(runs).filter((run) => (run.error ? "broken" : run.state) === wanted).length;
    pulse.textContent = ["live", "finished", "stalled", "broken"].filter(count).map((word) => `${count(word)} ${word === "broken" ? "that cannot be read" : word}`).join(", ");
  };

  // A hidden page holds no connection: a browser has six for all its pages of one server.
  let stream = null;
  const follow = () => {
    stream?.close();
    stream = null;
    if (document.hidden) return;
    stream = new EventSource("/events");
    stream.onmessage = (event) => show(JSON.parse(event.data));
    stream.onerror = () => {
      pulse.textContent = "the server does not answer; start it again";
      // A stream that was refused does not try again by itself.
      if (stream?.readyState === EventSource.CLOSED) setTimeout(follow, RETRY);
    };
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}
