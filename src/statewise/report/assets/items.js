// Items that one arm answers and another does not.
{
  const tasks = embedded("duel-data");
  const root = document.getElementById("duel");
  if (tasks?.length && root) {
    const LEVELS = 60;
    const LIMIT = 20;
    const by = (id) => document.getElementById(`duel-${id}`);
    const arms = [...new Set(tasks.flatMap((task) => Object.keys(task.by_arm)))];
    const level = (digit) => { const value = DIGIT.get(digit); return value > LEVELS ? null : value / LEVELS; };
    let more = LIMIT;

    /** Every item of a task that both arms were asked: id and both scores. */
    const compared = (task, a, b) => {
      const [mine, theirs] = [task.by_arm[a], task.by_arm[b]];
      if (!mine || !theirs) return [];
      return task.items.flatMap((item, i) => {
        const [x, y] = [level(mine[i]), level(theirs[i])];
        return x === null || y === null ? [] : [{ task: task.task, item, x, y }];
      });
    };

    const table = (head, rows, label) => element(
      "table",
      { "aria-label": label },
      element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, ...breakable(name))))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell, i) => (
        i ? element("td", { class: head[i] === "task" || head[i] === "decoding" ? "word" : null }, cell) : element("th", { scope: "row" }, cell)
      ))))),
    );

    const link = (item, task) => {
      const place = document.body.dataset.items;
      if (!place) return item;
      const query = new URLSearchParams({ task, item });
      return element("a", { href: `${place}?${query}` }, item);
    };

    const draw = () => {
      const [a, b, only, show] = ["a", "b", "task", "show"].map((id) => by(id).value);
      const every = tasks.map((task) => [task, compared(task, a, b)]);
      const counts = every.map(([task, items]) => {
        const [won, lost] = [items.filter((i) => i.x > i.y).length, items.filter((i) => i.x < i.y).length];
        const how = { greedy: "greedy", sampled: "T = 1", choices: "choices" }[task.decoding] ?? task.decoding;
        return [task.task, how, String(won), String(lost), String(items.length - won - lost), String(items.length)];
      });
      by("counts").replaceChildren(table(["task", "decoding", `${a} wins`, `${b} wins`, "tied", "items"], counts, "Items won and lost by task"));
      const listed = every
        .flatMap(([task, items]) => (only && task.task !== only ? [] : items))
        .filter((i) => (show === "won" ? i.x > i.y : i.x < i.y))
        .sort((p, q) => Math.abs(q.x - q.y) - Math.abs(p.x - p.y));
      const rows = listed.map((i) => [i.item, i.task, figure(i.x, 2), figure(i.y, 2), figure(i.x - i.y, 2)]);
      const head = ["item", "task", a, b, "difference"];
      by("status").textContent = `${listed.length} items ${show} by ${a} against ${b}${rows.length > more ? `; the first ${more}, the clearest first` : ""}.`;
      const shown = rows.slice(0, more).map(([item, task, ...rest]) => [link(item, task), task, ...rest]);
      by("items").replaceChildren(...(rows.length ? [table(head, shown, "Items")] : []));
      if (rows.length > more) {
        const button = element("button", { type: "button" }, "Show more");
        button.addEventListener("click", () => { more += 5 * LIMIT; draw(); });
        by("items").append(button);
      }
      root.querySelector("[data-csv-of]")?.remove();
      by("status").after(csvButton(`items-${a}-${show}-${b}`, () => [head, ...rows]));
    };

    for (const arm of arms) {
      by("a").append(element("option", { value: arm }, arm));
      by("b").append(element("option", { value: arm }, arm));
    }
    by("a").value = arms.at(-1);
    by("b").value = arms[0];
    by("task").append(element("option", { value: "" }, "all tasks"), ...tasks.map((task) => element("option", { value: task.task }, task.task)));
    for (const id of ["a", "b", "task", "show"]) by(id).addEventListener("change", () => { more = LIMIT; draw(); });
    root.hidden = false;
    draw();
  }
}
