"use strict";
let data = {};
const state = new URLSearchParams(location.search);

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function remember(name, value) {
  if (value) state.set(name, value); else state.delete(name);
  const query = state.toString();
  history.replaceState(null, "", (query ? "?" + query : location.pathname) + location.hash);
}

function element(name, text, parent, attributes = {}) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  return { text: style.getPropertyValue("--text").trim(), line: style.getPropertyValue("--line").trim() };
}

// --- tables ---

function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const value = (row) => {
    const cell = row.cells[column];
    if (!("value" in cell.dataset)) return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);  // missing values last
    return direction * (typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true }));
  });
  body.append(...rows);
  [...table.tHead.rows[0].cells].forEach((cell, i) => {
    if (i === column) cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
}

const tables = [...document.querySelectorAll("table.sortable")];
tables.forEach((table, number) => {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    const button = element("button", cell.textContent, null, { type: "button" });
    cell.replaceChildren(button);
    button.addEventListener("click", () => {
      const direction = cell.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      sortBy(table, column, direction);
      remember("sort", `${number}.${column}.${direction}`);
    });
  });
});

const field = document.getElementById("filter");

function filter() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (text) => words.every((word) => text.toLowerCase().includes(word));
  for (const row of document.querySelectorAll(".answers tbody tr, .below tbody tr, .below li")) row.hidden = !fits(row.textContent);
  for (const section of document.querySelectorAll("section.experiment")) section.hidden = !fits(section.textContent);
  for (const part of document.querySelectorAll(".below")) part.open = words.length > 0;
}

field.addEventListener("input", () => { filter(); remember("filter", field.value); });

// --- dots ---

const layout = () => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colours().text, size: 12 },
  margin: { l: 10, r: 10, t: 10, b: 40 }, showlegend: false,
});

function drawDots(holder) {
  const section = data[holder.dataset.section];
  const names = Object.keys(section.arms);
  const status = (trial) => trial.fields.status ?? section.shared.status;
  const { column, label } = section.score;
  const score = (trial) => trial.fields[column] ?? section.shared[column] ?? null;
  const traces = names.map((arm, place) => {
    const { colour, trials } = section.arms[arm];
    const spread = trials.map((_, i) => (trials.length > 1 ? (i / (trials.length - 1) - 0.5) * 0.6 : 0));
    return {
      type: "scatter", mode: "markers", name: arm,
      x: trials.map(score), y: spread.map((shift) => place + shift),
      text: trials.map((trial) => `${arm}, seed ${trial.seed}: ${score(trial)?.toFixed(4) ?? "no score"}`
        + (status(trial) === "diverged" ? " (diverged)" : "")),
      customdata: trials.map((_, i) => [arm, i]), hoverinfo: "text",
      marker: {
        size: 9, opacity: 0.75, color: colour === "#000000" ? colours().text : colour,
        symbol: trials.map((trial) => (status(trial) === "diverged" ? "x" : "circle")),
      },
    };
  });
  const lines = names.map((arm, place) => {
    const values = section.arms[arm].trials.map(score).filter((value) => value !== null);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    return { type: "line", x0: mean, x1: mean, y0: place - 0.4, y1: place + 0.4, line: { width: 2, color: colours().text } };
  });
  const axis = { gridcolor: colours().line, zeroline: false };
  Plotly.newPlot(holder, traces, {
    ...layout(), shapes: lines, height: 90 + 34 * names.length, hovermode: "closest",
    xaxis: { ...axis, title: { text: `${label}: a dot per seed, line: mean` } },
    yaxis: { ...axis, tickvals: names.map((_, i) => i), ticktext: names, range: [names.length - 0.4, -0.6], automargin: true, fixedrange: true },
  }, { responsive: true, displayModeBar: false });
  holder.on("plotly_click", (event) => {
    const [arm, i] = event.points[0].customdata;
    showTrial(holder.dataset.section, arm, i);
  });
}

function showTrial(name, arm, i) {
  const trial = data[name].arms[arm]?.trials[i];
  if (!trial) return;
  const box = document.getElementById(name).querySelector(".trial");
  box.replaceChildren();
  box.hidden = false;
  element("h3", `${arm}, seed ${trial.seed}`, box);
  element("pre", trial.command, box);
  const parts = element("div", null, box, { class: "parts" });
  const curve = element("div", null, parts, { class: "curve" });
  const val = data[name].val;
  const epochs = (trial.curves.train_loss || []).map((_, epoch) => epoch + 1);
  if (epochs.length) {
    const axis = { gridcolor: colours().line, zeroline: false };
    Plotly.newPlot(curve, [
      { x: epochs, y: trial.curves[val.column] || [], name: val.name, line: { color: "#0072B2" } },
      { x: epochs, y: trial.curves.train_loss, name: "training loss", yaxis: "y2", line: { color: "#D55E00", dash: "dash" } },
    ], {
      ...layout(), showlegend: true, legend: { orientation: "h", y: 1.2 }, margin: { l: 45, r: 45, t: 10, b: 40 },
      xaxis: { ...axis, title: { text: "epoch" } }, yaxis: axis, yaxis2: { overlaying: "y", side: "right", showgrid: false, tickmode: "auto", nticks: 5, tickformat: ".2~g" },
    }, { responsive: true, displayModeBar: false });
  }
  if (trial.confusion) {
    const holder = element("div", null, parts, { class: "matrix" });
    element("div", "rows: true class, columns: predicted", holder);
    const table = element("table", null, holder, { class: "confusion" });
    const names = data[name].classes;
    if (names.length) {
      const head = element("tr", null, table);
      element("th", "", head);
      trial.confusion.forEach((_, column) => element("th", names[column], head, { title: names[column] }));
    }
    trial.confusion.forEach((line, row) => {
      const tr = element("tr", null, table);
      if (names.length) element("th", names[row], tr, { title: names[row] });
      line.forEach((count, column) => element("td", count || "·", tr, row === column ? { class: "hit" } : {}));
    });
  }
  const table = element("table", null, box);
  for (const [key, value] of Object.entries({ ...data[name].shared, ...trial.fields })) {
    if (value === null || value === "") continue;
    const tr = element("tr", null, table);
    element("th", key, tr);
    element("td", String(value), tr);
  }
  remember("trial", JSON.stringify([name, arm, i]));
}

const watcher = new IntersectionObserver((seen) => {
  for (const entry of seen) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    drawDots(entry.target);
  }
}, { rootMargin: "600px" });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const holder of document.querySelectorAll(".dots.js-plotly-plot")) drawDots(holder);
});
addEventListener("beforeprint", () => {
  for (const holder of document.querySelectorAll(".dots:not(.js-plotly-plot)")) drawDots(holder);
});

// --- differences against any arm ---

function compare(name, reference) {
  const section = document.getElementById(name);
  const arms = Object.keys(data[name].arms);
  const differences = new Map();
  for (const [arm, other, difference, low, high] of data[name].differences) {
    if (arms[other] === reference) differences.set(arms[arm], [difference, low, high]);
    if (arms[arm] === reference) differences.set(arms[other], [difference, high, low].map((value) => (value === null ? null : -value)));
  }
  const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(4);
  for (const row of section.querySelectorAll("table.arms tbody tr")) {
    const [difference, low, high] = differences.get(row.dataset.arm) || [null, null, null];
    row.cells[5].dataset.value = difference ?? "";
    row.cells[5].textContent = difference === null ? "" : signed(difference);
    row.cells[6].textContent = difference === null ? "" : low === null || high === null ? "unbounded" : `${signed(low)} to ${signed(high)}`;
  }
}

for (const select of document.querySelectorAll(".against select")) {
  const declared = select.value;
  select.addEventListener("change", () => {
    const name = select.closest("section").id;
    compare(name, select.value);
    remember("against", select.value === declared ? "" : JSON.stringify([name, select.value]));
  });
}

// --- links to what is folded ---

function unfold() {
  let target;
  try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { return; }  // not an address of ours
  const part = target?.closest("details.below");
  if (!part || part.open) return;
  part.open = true;
  target.scrollIntoView();
}

addEventListener("hashchange", unfold);
unfold();

// --- the state in the URL ---

if (state.has("filter")) { field.value = state.get("filter"); filter(); }
if (state.has("sort")) {
  const [number, column, direction] = state.get("sort").split(".").map(Number);
  if (tables[number]?.tHead.rows[0].cells[column]) sortBy(tables[number], column, direction);
}
unpacked("plotly").then((code) => {
  element("script", code, document.head);
  return unpacked("data");
}).then((text) => {
  data = JSON.parse(text);
  for (const holder of document.querySelectorAll(".dots")) watcher.observe(holder);
  if (state.has("against")) {
    try {
      const [name, reference] = JSON.parse(state.get("against"));
      compare(name, reference);
      document.getElementById(name).querySelector(".against select").value = reference;
    } catch { remember("against", ""); }
  }
  if (state.has("trial")) {
    try { showTrial(...JSON.parse(state.get("trial"))); } catch { remember("trial", ""); }
  }
});
