// Items by page and filter; the address keeps the filter, so that a view can be shared and gone back to.
{
  const form = document.getElementById("filters");
  const body = document.querySelector("#rows tbody");
  const count = document.getElementById("count");
  const place = location.pathname;
  let page = 0;
  let asked = 0;

  const wanted = () => {
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value) query.set(name, value);
    if (page) query.set("page", page);
    return query;
  };

  const row = (item) => {
    const notes = [item.extraction_failed ? "no answer found" : null, item.stopped === false ? "cut" : null].filter(Boolean).join(", ");
    const cells = [item.arm, item.seed, item.task, item.item_id, item.decoding];
    return element("tr", {},
      element("th", { scope: "row" }, ...breakable(String(cells[0]))),
      ...cells.slice(1).map((cell) => element("td", {}, String(cell))),
      element("td", {}, figure(item.score, 2), notes ? element("small", {}, notes) : null),
      element("td", {}, element("bdi", {}, visible(item.response ?? ""))));
  };

  const draw = async () => {
    const query = wanted();
    history.replaceState(null, "", query.size ? `${place}?${query}` : place);
    asked += 1;
    const mine = asked;
    const answer = await fetch(`${place}.json?${query}`);
    if (mine !== asked) return; // a later question is on its way
    if (!answer.ok) { count.textContent = await answer.text(); return; }
    const found = await answer.json();
    for (const [name, values] of Object.entries(found.facets)) {
      const select = form.elements[name];
      const known = new Set([...select.options].map((option) => option.value));
      select.append(...values.filter((value) => !known.has(value)).map((value) => element("option", { value }, value)));
    }
    const first = found.page * found.page_size;
    count.textContent = found.total ? `${first + 1} to ${first + found.rows.length} of ${found.total.toLocaleString("en")}` : "No item fits.";
    body.replaceChildren(...found.rows.map(row));
    document.getElementById("earlier").disabled = page === 0;
    document.getElementById("later").disabled = first + found.rows.length >= found.total;
  };

  for (const [name, value] of new URLSearchParams(location.search)) {
    if (name === "page") page = Number(value) || 0;
    const field = form.elements[name];
    if (!field) continue;
    if (field.tagName === "SELECT") field.append(element("option", { value, selected: true }, value));
    else field.value = value;
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { page = 0; draw(); });
  document.getElementById("earlier").addEventListener("click", () => { page -= 1; draw(); });
  document.getElementById("later").addEventListener("click", () => { page += 1; draw(); });
  draw();
}
