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

/** The texts of a table, what stands small in a cell behind what stands large. */
function tableRows(table) {
  return [...table.rows].map((row) => [...row.cells].map((cell) => {
    const parts = [...cell.childNodes].filter((node) => node.nodeName !== "SMALL").map((node) => node.textContent);
    const small = [...cell.querySelectorAll("small")].map((node) => node.textContent).filter(Boolean);
    return [parts.join("").replace(/\s+/g, " ").trim(), ...small].join(" ").trim();
  }));
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
