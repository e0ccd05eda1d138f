"use strict";
const { sheet, schema, pairs } = JSON.parse(document.getElementById("data").textContent);
const CHOICES = { 1: "left", 2: "same", 3: "right", 0: "skip" };
const place = `lrem-os-sbs-${sheet}`;
const part = (id) => document.getElementById(id);
let state = { judge: "", votes: [] }; // votes in the order in which they were cast
let shownAt = 0;

function keep() {
  try {
    localStorage.setItem(place, state.judge);
    localStorage.setItem(`${place} ${state.judge}`, JSON.stringify(state.votes));
  } catch { say("This browser keeps nothing: export before you close the page."); }
}

function recall(judge) {
  try {
    const votes = JSON.parse(localStorage.getItem(`${place} ${judge}`));
    if (Array.isArray(votes)) return { judge, votes };
  } catch { /* nothing was kept, or it cannot be read: begin anew */ }
  return { judge, votes: [] };
}

function lastJudge() {
  try { return localStorage.getItem(place) ?? ""; } catch { return ""; }
}

function say(text) { part("said").textContent = text; }

function element(name, kind, text) {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

function list(items) {
  if (!items.length) return [element("p", "none", "nothing found")];
  return items.map((item) => {
    const row = document.createElement("li");
    row.append(element("span", "title", item.title));
    if (item.facts.length) row.append(element("span", "facts", item.facts.join(" · ")));
    if (item.text) row.append(element("span", "text", item.text));
    return row;
  });
}

function show() {
  const done = state.votes.length;
  const finished = done === pairs.length;
  for (const id of ["start", "judging", "done"]) part(id).hidden = true;
  part(finished ? "done" : "judging").hidden = false;
  part("bar").hidden = false;
  part("progress").setAttribute("aria-valuenow", done);
  part("progress").firstElementChild.style.width = `${(100 * done) / pairs.length}%`;
  for (const button of part("bar").querySelectorAll("[data-key]")) {
    button.disabled = false;
    if (button.dataset.key in CHOICES) button.hidden = finished;
    else if (button.dataset.key === "u") button.disabled = !done;
  }
  scrollTo(0, 0);
  if (finished) {
    const count = (choice) => state.votes.filter((vote) => vote.choice === choice).length;
    part("tally").textContent = `${done} queries: ${done - count("skip")} decided, ${count("skip")} without a decision.`;
    part("done").querySelector("h1").focus();
    return;
  }
  const pair = pairs[done];
  part("place").textContent = `${done + 1} of ${pairs.length}`;
  part("query").textContent = pair.query;
  part("left").replaceChildren(...list(pair.left));
  part("right").replaceChildren(...list(pair.right));
  part("query").focus();
  shownAt = Date.now();
}

function press(key) {
  if (key in CHOICES && state.votes.length < pairs.length) {
    const { query_id } = pairs[state.votes.length];
    state.votes.push({ query_id, choice: CHOICES[key], seconds: Math.round((Date.now() - shownAt) / 100) / 10 });
    say(`${CHOICES[key]}. ${state.votes.length} of ${pairs.length} judged.`);
  } else if ((key === "u" || key === "Backspace") && state.votes.length) {
    state.votes.pop();
    say("Taken back.");
  } else if (key === "e") {
    download();
    return;
  } else return;
  keep();
  show();
}

function download() {
  const text = JSON.stringify({ schema, sheet, judge: state.judge, votes: state.votes }, null, 2);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const judge = state.judge.replace(/[^\p{L}\p{N}]+/gu, "-");
  link.download = `votes-${sheet.slice(0, 8)}-${judge}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`Exported ${state.votes.length} decisions.`);
}

addEventListener("keydown", (event) => {
  if (part("bar").hidden || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in CHOICES || ["u", "e", "Backspace"].includes(event.key)) {
    event.preventDefault();
    press(event.key);
  }
});
part("bar").addEventListener("click", (event) => {
  const button = event.target.closest("[data-key]");
  if (button) press(button.dataset.key);
});
part("who").addEventListener("submit", (event) => {
  event.preventDefault();
  const judge = part("judge").value.trim();
  if (!judge) return;
  state = recall(judge);
  keep();
  show();
});

const before = recall(lastJudge());
part("judge").value = before.judge;
part("start").hidden = false;
part("judge").focus();
if (before.votes.length) part("kept").textContent = `${before.votes.length} decisions of ${before.judge} are kept from before: start to go on.`;
