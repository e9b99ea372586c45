// Tables sort by a click on a heading.
const sortable = (table) => {
  for (const [index, head] of [...table.tHead.rows[0].cells].entries()) {
    const control = document.createElement("button");
    control.type = "button";
    control.append(...head.childNodes);
    control.addEventListener("click", () => sort(table, head, index));
    head.append(control);
  }
};

const sort = (table, head, index) => {
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const number = head.classList.contains("number");
  const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row.cells[index], number), row]);
  rows.sort(([a], [b]) => compare(a, b, down));
  table.tBodies[0].append(...rows.map(([, row]) => row));
};

const keyOf = (cell, number) => {
  const text = cell.textContent;
  if (!number) return text;
  return Number(text.replaceAll(",", "").replace("−", "-").replace("∞", "Infinity"));
};

// Missing values go last in either direction.
const compare = (a, b, down) => {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  const order = typeof a === "number" ? a - b : a.localeCompare(b);
  return down ? -order : order;
};

document.querySelectorAll("table.data").forEach(sortable);
