// The microscope's view: one row an arm, one cell a token.
{
  const data = embedded("scope-data");
  const root = document.getElementById("scope");
  if (data && root) {
    const completions = new Completions(data);
    const rows = [...root.querySelectorAll(".rollout")];
    const by = (id) => document.getElementById(`scope-${id}`);
    const panel = document.getElementById("state");
    const narrow = matchMedia("(max-width: 64rem)");
    const scales = {};
    const ranks = {};
    const at = { prompt: 0, arm: rows[0].dataset.arm, t: null };

    const kind = () => by("rollout").value;
    const measure = () => by("measure").value;
    const rolloutOf = (arm) => completions.rollout(at.prompt, arm, kind());
    const rowOf = (arm) => rows.find((row) => row.dataset.arm === arm);
    const scale = (name) => { scales[name] ??= new Scale(completions, name); return scales[name]; };

    const describe = (rollout, t) => {
      const name = measure();
      const said = name === "owner" ? rollout.owner(t) : `${MEASURES[name][0]} ${figure(rollout.number(name, t))}`;
      return `Token ${t + 1} of ${rollout.length}: “${tokenText(rollout.token(t)).replaceAll("\n", "newline")}”, ${said}`;
    };

    const paint = (cell, rollout, t) => {
      const name = measure();
      const css = name === "owner" ? `owner ${ownerKind(rollout.owner(t))}` : scale(name).css(rollout.number(name, t));
      cell.className = `tok ${css}`;
      cell.setAttribute("aria-label", describe(rollout, t));
    };

    /** Why an arm has its own completion alone to show. */
    const onlyOwn = (arm, rollout) => {
      if (rollout.trainedOn) return "its own is what it trains on";
      return data.trains[arm] ? "what it is trained on cannot be shown for these prompts" : "it does not train";
    };

    const fill = (row) => {
      const rollout = rolloutOf(row.dataset.arm);
      const list = row.querySelector(".tokens");
      const of = row.querySelector(".of");
      list.replaceChildren();
      row.hidden = !rollout;
      if (!rollout) return;
      const teacher = data.teachers[row.dataset.arm];
      const notes = [
        teacher ? `taught by ${teacher}` : null,
        rollout.kind !== "own" ? "trained on" : kind() === "own" ? null : onlyOwn(row.dataset.arm, rollout),
        rollout.score === null ? null : `score ${figure(rollout.score, rollout.score % 1 ? 2 : 0)}`,
        rollout.stopped ? null : "cut at the length limit",
      ];
      of.textContent = notes.filter(Boolean).join(" · ");
      for (let t = 0; t < rollout.length; t += 1) {
        const cell = element("span", { role: "option", tabindex: "-1", "aria-selected": "false", "data-t": t },
          element("bdi", {}, ...spaced(rollout.token(t))));
        paint(cell, rollout, t);
        list.append(cell);
        if (rollout.token(t).includes("\n")) list.append(element("br"));
      }
      if (list.firstElementChild) list.firstElementChild.tabIndex = 0;
    };

    const legend = () => {
      const name = measure();
      const parts = name === "owner"
        ? [...new Set([...completions.states()].map(({ rollout, t }) => ownerKind(rollout.owner(t))))]
          .map((owner) => element("span", { class: `tok owner ${owner}` }, owner))
        : scale(name).steps().map(([css, value]) => element("span", { class: `tok ${css}` }, figure(value, Math.abs(value) < 0.1 ? 3 : 2)));
      by("legend").replaceChildren(element("span", { class: "fine" }, `${MEASURES[name][1]}: `), ...parts);
    };

    const draw = () => {
      const prompt = data.prompts[at.prompt];
      by("prompt").value = String(at.prompt);
      by("text").replaceChildren(element("bdi", {}, visible(prompt.text)));
      by("reference").replaceChildren(element("bdi", {}, prompt.reference === null ? "no reference" : visible(prompt.reference)));
      rows.forEach(fill);
      at.t = null;
    };

    const place = () => { // beside the completions where there is room, else behind the one that is looked at
      const row = rowOf(at.arm);
      if (narrow.matches && row && at.t !== null) row.after(panel);
      else root.querySelector(".bench").append(panel);
    };

    const choose = (arm, t, focus) => {
      const rollout = rolloutOf(arm);
      if (!rollout || !rollout.length) return;
      at.arm = arm;
      at.t = Math.max(0, Math.min(t, rollout.length - 1));
      for (const cell of root.querySelectorAll(".tok[aria-selected=true]")) {
        cell.setAttribute("aria-selected", "false");
        cell.tabIndex = -1;
      }
      const list = rowOf(arm).querySelector(".tokens");
      for (const cell of list.querySelectorAll("[tabindex='0']")) cell.tabIndex = -1;
      const cell = list.querySelector(`[data-t="${at.t}"]`);
      cell.setAttribute("aria-selected", "true");
      cell.tabIndex = 0;
      showState(panel, { prompt: data.prompts[at.prompt], arm, teacher: data.teachers[arm], rollout, t: at.t });
      place();
      if (focus) cell.focus({ preventScroll: false });
    };

    const first = () => { // something to look at from the start: the state of this prompt that moved most
      let best = [at.arm, 0, -1];
      for (const row of rows) {
        const rollout = rolloutOf(row.dataset.arm);
        for (let t = 0; rollout && t < rollout.length; t += 1) {
          const size = rollout.number("kl_to_base", t) ?? 0;
          if (size > best[2]) best = [row.dataset.arm, t, size];
        }
      }
      choose(best[0], best[1], false);
    };

    const go = (prompt) => {
      at.prompt = (prompt + data.prompts.length) % data.prompts.length;
      draw();
      first();
    };

    const SIZES = {
      moved: [(rollout, t) => rollout.number("kl_to_base", t), (v) => `KL to base ${figure(v, 3)} nats`],
      disagreed: [
        (rollout, t) => { const gap = rollout.number("gap", t); return gap === null ? null : Math.abs(gap); },
        (v) => `teacher and student ${figure(v, 2)} nats apart`,
      ],
      forgotten: [(rollout, t) => rollout.forgotten(t), (v) => `base's first choice lost ${(100 * v).toFixed(1)} % or more`],
    };
    const jump = (name) => {
      const arm = by("among").value;
      const key = `${name} ${arm}`;
      ranks[key] ??= { found: completions.ranked(SIZES[name][0], arm), next: 0 };
      const rank = ranks[key];
      if (!rank.found.length) {
        by("found").textContent = name === "disagreed" ? "No teacher among these arms." : "No such state.";
        return;
      }
      const place = rank.next % rank.found.length;
      const { prompt, arm: of, rollout, t, size } = rank.found[place];
      rank.next = place + 1;
      at.prompt = prompt;
      by("rollout").value = rollout.kind;
      draw();
      choose(of, t, true);
      by("found").textContent = `${place + 1} of the ${rank.found.length} most ${name}: ${SIZES[name][1](size)}, ${of}, prompt ${prompt + 1}, token ${t + 1}. Press again for the next.`;
    };

    root.addEventListener("click", (event) => {
      const cell = event.target.closest(".rollout .tok");
      if (cell) choose(cell.closest(".rollout").dataset.arm, Number(cell.dataset.t), true);
    });
    root.addEventListener("keydown", (event) => {
      const cell = event.target.closest?.(".rollout .tok");
      if (!cell) return;
      const row = cell.closest(".rollout");
      const t = Number(cell.dataset.t);
      const shown = rows.filter((other) => !other.hidden);
      const other = (step) => shown[shown.indexOf(row) + step]?.dataset.arm ?? row.dataset.arm;
      const move = {
        ArrowLeft: () => choose(row.dataset.arm, t - 1, true),
        ArrowRight: () => choose(row.dataset.arm, t + 1, true),
        ArrowUp: () => choose(other(-1), t, true),
        ArrowDown: () => choose(other(1), t, true),
        Home: () => choose(row.dataset.arm, 0, true),
        End: () => choose(row.dataset.arm, Infinity, true),
        Enter: () => choose(row.dataset.arm, t, true),
        " ": () => choose(row.dataset.arm, t, true),
      }[event.key];
      if (!move) return;
      event.preventDefault();
      move();
    });
    by("prompt").append(...data.prompts.map((prompt, i) => {
      const line = visible(prompt.text).replace(/\s+/g, " ").trim();
      return element("option", { value: i }, `${i + 1}/${data.prompts.length}: ${line.slice(0, 60)}${line.length > 60 ? "…" : ""}`);
    }));
    by("prompt").addEventListener("change", () => go(Number(by("prompt").value)));
    by("back").addEventListener("click", () => go(at.prompt - 1));
    by("next").addEventListener("click", () => go(at.prompt + 1));
    by("rollout").addEventListener("change", () => go(at.prompt));
    by("measure").addEventListener("change", () => {
      legend();
      for (const row of rows) {
        const rollout = rolloutOf(row.dataset.arm);
        for (const cell of row.querySelectorAll(".tok")) paint(cell, rollout, Number(cell.dataset.t));
      }
    });
    for (const button of root.querySelectorAll("[data-jump]")) {
      button.addEventListener("click", () => jump(button.dataset.jump));
    }
    narrow.addEventListener("change", place);
    by("seed").textContent = data.seed;
    root.hidden = false;
    legend();
    go(0);
  }
}
