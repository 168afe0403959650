// All runs in one set of panels: a panel holds one quantity, so that every line in it may be compared.
const Together = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = 8;
  const DASHES = ["", "6 3", "1.5 2.5", "8 3 2 3"];
  const points = {};
  let runs = {};
  let before = "";

  const shape = (tag, attributes, text) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== "") made.setAttribute(name, value);
    if (text) made.textContent = text;
    return made;
  };

  /** A marker a run, of equal size. */
  const marker = (run, x, y, colour) => {
    const at = (pairs) => pairs.map(([dx, dy]) => `${x + dx},${y + dy}`).join(" ");
    const forms = [
      () => shape("circle", { cx: x, cy: y, r: 4.5 }),
      () => shape("polygon", { points: at([[-4.2, -4.2], [4.2, -4.2], [4.2, 4.2], [-4.2, 4.2]]) }),
      () => shape("polygon", { points: at([[0, -5.2], [5, 4], [-5, 4]]) }),
      () => shape("polygon", { points: at([[0, -5.6], [5.6, 0], [0, 5.6], [-5.6, 0]]) }),
    ];
    const made = forms[run % forms.length]();
    made.setAttribute("class", `point ${colour}`);
    return made;
  };

  const colours = () => {
    const names = [...new Set(Object.values(runs).flatMap((run) => (run.arms ?? []).map((arm) => arm.name)))].filter((name) => name !== "base");
    return Object.fromEntries([["base", "fixed"], ...names.map((name, i) => [name, `arm${i % COLOURS}`])]);
  };

  /** Round ends and a step such that a scale has three to six ticks. */
  const ticks = (low, high) => {
    const span = high - low || Math.abs(high) || 1;
    const rough = span / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let v = Math.ceil((low - 1e-9 * span) / step) * step; v <= high + 1e-9 * span; v += step) found.push(Number(v.toPrecision(10)));
    return found;
  };

  const BOX = { left: 52, top: 10, width: 280, height: 170 };
  const frame = (label, across, up, [x0, x1], [y0, y1]) => {
    const { left, top, width, height } = BOX;
    const x = (v) => left + ((v - x0) / (x1 - x0 || 1)) * width;
    const y = (v) => top + height - ((v - y0) / (y1 - y0 || 1)) * height;
    const picture = shape("svg", { viewBox: `0 0 ${left + width + 14} ${top + height + 40}`, role: "img", "aria-label": label });
    for (const v of ticks(y0, y1)) {
      picture.append(shape("line", { x1: left, x2: left + width, y1: y(v), y2: y(v) }));
      picture.append(shape("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, `${v}`.replace("-", "\u2212")));
    }
    for (const v of ticks(x0, x1)) {
      picture.append(shape("line", { x1: x(v), x2: x(v), y1: top, y2: top + height }));
      picture.append(shape("text", { x: x(v), y: top + height + 14, "text-anchor": "middle" }, `${v}`.replace("-", "\u2212")));
    }
    picture.append(shape("text", { x: left + width / 2, y: top + height + 31, "text-anchor": "middle", class: "axis" }, across));
    picture.append(shape("text", { x: 0, y: 0, "text-anchor": "middle", class: "axis", transform: `translate(11 ${top + height / 2}) rotate(-90)` }, up));
    return { picture, x, y };
  };
  const widen = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = 0.06 * (high - low) || 0.05 * Math.abs(high) || 0.5;
    return [low - room, high + room];
  };

  /** Every curve with the panel that it belongs to: its quantity by name. */
  const curves = () => {
    const panels = {};
    Object.entries(runs).forEach(([run, state], place) => (state.arms ?? []).forEach((arm) => arm.seeds.forEach((seed) => {
      for (const [key, points] of Object.entries(seed.curves)) {
        const reward = arm.rewards?.[key] ?? (key.endsWith("reward_mean") ? "reward" : null);
        const [rank, name, note] = key === "loss" ? [3, arm.loss, arm.surrogate ? "a surrogate: no measure of progress" : "training loss"]
          : reward !== null ? [2, reward, "mean reward while training"] : [1, key, "on the dev split"];
        const panel = panels[`${rank} ${note} ${name}`] ??= { rank, name, note, lines: [] };
        panel.lines.push({ run, place, arm: arm.name, seed: seed.seed, points });
      }
    })));
    return Object.values(panels).sort((a, b) => a.rank - b.rank);
  };

  const drawCurves = (panel, colour) => {
    const steps = panel.lines.flatMap((line) => line.points.map(([step]) => step));
    const values = panel.lines.flatMap((line) => line.points.map(([, value]) => value));
    const { picture, x, y } = frame(`${panel.name}, ${panel.note}`, "step", panel.name, [0, Math.max(...steps, 1)], widen(values));
    for (const line of panel.lines) {
      const drawn = shape("polyline", { points: line.points.map(([s, v]) => `${x(s).toFixed(1)},${y(v).toFixed(1)}`).join(" "), class: colour[line.arm], "stroke-dasharray": DASHES[line.place % DASHES.length] });
      drawn.append(shape("title", {}, `${line.run}, ${line.arm}, seed ${line.seed}: ${figure(line.points.at(-1)[1])} at step ${line.points.at(-1)[0]}`));
      picture.append(drawn);
      if (line.points.length === 1) picture.append(marker(line.place, x(line.points[0][0]), y(line.points[0][1]), colour[line.arm]));
    }
    return element("figure", {}, element("figcaption", {}, element("strong", {}, panel.name), ` ${panel.note}`), picture);
  };

  /** Target against retention: a panel for each set of tasks that some runs share. */
  const drawPoints = (colour) => {
    const groups = {};
    Object.keys(runs).forEach((run, place) => {
      const found = points[run];
      if (found?.arms.length) (groups[`${found.target} | ${found.retention.join(", ")}`] ??= []).push({ run, place, ...found });
    });
    return Object.values(groups).map((group) => {
      const every = group.flatMap((run) => run.arms);
      const ends = (key) => every.flatMap((arm) => arm[key].filter((v) => v !== null));
      const { picture, x, y } = frame("target against retention", `${group[0].target} (target)`, "retention, mean", widen(ends("target")), widen(ends("retention")));
      for (const run of group) {
        for (const arm of run.arms) {
          const [[px, xl, xh], [py, yl, yh]] = [arm.target, arm.retention];
          const look = { class: `bar ${colour[arm.name] ?? "fixed"}` };
          if (xl !== null) picture.append(shape("path", { d: `M${x(xl)} ${y(py)}H${x(xh)}`, ...look }));
          if (yl !== null) picture.append(shape("path", { d: `M${x(px)} ${y(yl)}V${y(yh)}`, ...look }));
          const mark = marker(run.place, x(px), y(py), colour[arm.name] ?? "fixed");
          mark.append(shape("title", {}, `${run.run}, ${arm.name}: target ${figure(px)}, retention ${figure(py)}`));
          picture.append(mark);
        }
      }
      return element("figure", {}, element("figcaption", {}, element("strong", {}, "Target against retention"), ` mean of ${group[0].retention.join(", ")}`), picture);
    });
  };

  const key = (colour) => {
    const several = Object.keys(runs).length > 1;
    const swatch = (...parts) => {
      const made = shape("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" });
      made.append(...parts);
      return made;
    };
    const arms = Object.entries(colour).filter(([name]) => Object.values(runs).some((run) => (run.arms ?? []).some((arm) => arm.name === name)));
    return [
      ...arms.map(([name, look]) => element("li", {}, swatch(shape("polyline", { points: "1,6 25,6", class: look })), ...breakable(name))),
      ...(several ? Object.keys(runs).map((run, place) => element("li", { class: "of-run" },
        swatch(shape("polyline", { points: "1,6 25,6", class: "fixed", "stroke-dasharray": DASHES[place % DASHES.length] }), marker(place, 13, 6, "fixed")), ...breakable(run))) : []),
    ];
  };

  const draw = () => {
    const said = JSON.stringify([Object.entries(runs).map(([name, run]) => [name, run.arms]), points]);
    if (said === before) return;
    before = said;
    const colour = colours();
    const section = document.getElementById("together");
    section.querySelector(".key").replaceChildren(...key(colour));
    const found = [...drawPoints(colour), ...curves().map((panel) => drawCurves(panel, colour))];
    section.querySelector(".curves").replaceChildren(...(found.length ? found : [element("p", { class: "missing" }, "Nothing has trained yet.")]));
  };
  return { points, draw, show: (found) => { runs = found; draw(); } };
})();
