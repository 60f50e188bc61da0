"use strict";
// Sorting and filtering of tables that are complete without it. Runs once, touches nothing outside of the page.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, at) => {
    const cell = row.cells[at];
    return cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v;
  };
  const compare = (a, b) => {
    if (a === b) return 0;
    if (a === "" || b === "") return a === "" ? 1 : -1; // what isn't known stands last, whichever the order
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const known = rows.map((row, place) => [key(row, at), place, row]);
      known.sort(([a, m], [b, n]) => (down && a !== "" && b !== "" ? compare(b, a) : compare(a, b)) || m - n);
      body.append(...known.map(([, , row]) => row));
    });
  });
  if (!table.dataset.filter) continue;
  const bar = document.createElement("div");
  bar.className = "filter";
  const text = document.createElement("input");
  text.type = "search";
  text.placeholder = "find in the table";
  text.setAttribute("aria-label", "find in the table");
  const choice = document.createElement("select");
  choice.setAttribute("aria-label", "only with this result");
  const kinds = [...new Set(rows.map((row) => row.dataset.kind))].sort();
  choice.append(new Option("all results", ""), ...kinds.map((kind) => new Option(kind, kind)));
  const said = document.createElement("span");
  said.className = "soft";
  said.setAttribute("role", "status");
  const show = () => {
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = (!choice.value || row.dataset.kind === choice.value) &&
        (!wanted || row.textContent.toLowerCase().includes(wanted));
      row.hidden = !fits;
      shown += fits;
    }
    said.textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  };
  text.addEventListener("input", show);
  choice.addEventListener("change", show);
  bar.append(text, choice, said);
  table.parentElement.before(bar);
  show();
}
