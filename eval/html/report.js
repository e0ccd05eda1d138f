"use strict";
const table = document.getElementById("movers");
const body = table.tBodies[0];
const rows = [...body.rows];
const tools = ["find", "only-run", "only-way"].map((id) => document.getElementById(id));
const [find, onlyRun, onlyWay] = tools;

function filter() {
  const measure = document.querySelector("[name=measure]:checked")?.value ?? "0";
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0, all = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !(words.every((word) => text.includes(word)) &&
      (!onlyRun.value || row.dataset.run === onlyRun.value) && (!onlyWay.value || row.dataset.way === onlyWay.value));
    if (row.dataset.m === measure) { all += 1; shown += !row.hidden; }
  }
  document.getElementById("shown").textContent = `${shown} of ${all}`;
}

function sort(head) {
  const column = head.cellIndex, number = head.dataset.sort === "number";
  const way = head.getAttribute("aria-sort") === (number ? "descending" : "ascending") ? -1 : 1;
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = number ? (a, b) => (parseFloat(value(b)) || 0) - (parseFloat(value(a)) || 0)
    : (a, b) => value(a).localeCompare(value(b));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", (way === 1) === number ? "descending" : "ascending");
  body.append(...rows.sort((a, b) => way * compare(a, b)));
}

for (const head of table.tHead.rows[0].cells) {
  if (!head.dataset.sort) continue;
  const button = document.createElement("button");
  button.className = "sort";
  button.append(...head.childNodes);
  button.addEventListener("click", () => sort(head));
  head.append(button);
}
for (const tool of [...tools, ...document.querySelectorAll("[name=measure]")]) tool.addEventListener("input", filter);
document.getElementById("tools").hidden = false;
addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
filter();
