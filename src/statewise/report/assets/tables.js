// Every table can be taken along as CSV. `report/table_csv.py` writes the same to files.

/** One cell: plain minus, nothing for a dash, no formula, quoted where it must be. */
function csvCell(text) {
  let value = text === "–" ? "" : text.replaceAll("−", "-");
  if (/^[=+\-@\t]/.test(value) && !/^[-+]?[\d.]+(e[-+]?\d+)?$/.test(value)) value = `'${value}`;
  return /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

/** Rows of texts as CSV. */
function csvText(rows) {
  return rows.map((row) => `${row.map((cell) => csvCell(String(cell))).join(",")}\n`).join("");
}

/** What stands large in a cell, and each thing that stands small. */
function cellParts(cell) {
  const parts = [...cell.childNodes].filter((node) => node.nodeName !== "SMALL").map((node) => node.textContent);
  const small = [...cell.querySelectorAll("small")].map((node) => node.textContent.trim());
  return [parts.join("").replace(/\s+/g, " ").trim(), small.filter(Boolean)];
}

/**
 * The texts of a table. What stands small in a cell has columns of its own: the ends of its interval and, where one
 * has a star, what it ranges over; then the rest.
 */
function tableRows(table) {
  const [head, ...body] = [...table.rows].map((row) => [...row.cells].map(cellParts));
  const interval = (small) => small.find((text) => text.startsWith("["));
  const others = (small) => small.filter((text) => !text.startsWith("["));
  const columns = head.map((_, i) => ({
    bounded: body.some((row) => row[i] && interval(row[i][1])),
    starred: body.some((row) => row[i] && interval(row[i][1])?.endsWith("*")),
    more: Math.max(0, ...body.map((row) => (row[i] ? others(row[i][1]).length : 0))),
  }));
  const spread = ([large, small], { bounded, starred, more }) => {
    const ends = /^\[(.+), (.+)\]/.exec(interval(small) ?? "") ?? ["", "", ""];
    const rest = Array.from({ length: more }, (_, k) => (others(small)[k] ?? "").replace(/^[a-z]+ (?=\d)/, ""));
    const over = !interval(small) ? "" : interval(small).endsWith("*") ? "items" : "seeds and items";
    return [large, ...(bounded ? ends.slice(1) : []), ...(starred ? [over] : []), ...rest];
  };
  const named = ([large, small], { bounded, starred, more }) => {
    const words = small.join(" ").split(", "); // the last say what stands small, the first what stands large
    const kept = words.slice(0, more ? -more : undefined);
    const rest = more ? words.slice(-more) : [];
    const name = [large, ...kept].filter(Boolean).join(", ");
    const ends = bounded ? [`${name}, low`, `${name}, high`] : [];
    const over = starred ? [`${name}, over`] : [];
    return [name, ...ends, ...over, ...rest.map((word) => `${large}, ${word}`)];
  };
  return [
    head.flatMap((cell, i) => named(cell, columns[i])),
    ...body.map((row) => row.flatMap((cell, i) => spread(cell, columns[i] ?? { bounded: false, more: 0 }))),
  ];
}

/** A button that hands `rows()` over as a file. */
function csvButton(name, rows) {
  const button = element("button", { type: "button", class: "csv", "data-csv-of": name }, "Download CSV");
  button.addEventListener("click", () => download(`${name}.csv`, csvText(rows()), "text/csv"));
  return button;
}

for (const table of document.querySelectorAll("table[data-csv]")) {
  table.closest(".scroll").before(csvButton(table.dataset.csv, () => tableRows(table)));
}
for (const button of document.querySelectorAll("button[data-json]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const { head, rows } = embedded(button.dataset.json);
    download(`${button.dataset.name}.csv`, csvText([head, ...rows]), "text/csv");
  });
}
