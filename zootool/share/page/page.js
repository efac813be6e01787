"use strict";
// Text from the store reaches the page by textContent and setAttribute alone.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function element(tag, words, parent, attributes = {}) {
  const made = document.createElement(tag);
  if (words !== null) made.textContent = words;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function drawn(tag, attributes, parent) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function shown(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return Math.abs(value) < 1e-4 ? Number(value.toPrecision(4)).toExponential() : String(Number(value.toPrecision(5)));
}

const brief = (number) => shown(Number(number.toPrecision(2)));

function bars(svg, counts) {
  const most = Math.max(1, ...counts), width = 100 / Math.max(counts.length, 1);
  svg.setAttribute("viewBox", "0 0 100 60");
  svg.setAttribute("preserveAspectRatio", "none");
  counts.forEach((count, i) => {
    const height = (56 * count) / most;
    drawn("rect", { class: "bar", x: i * width + 0.15 * width, y: 60 - height, width: 0.7 * width, height }, svg);
  });
  drawn("line", { class: "axis", x1: 0, x2: 100, y1: 60, y2: 60 }, svg);
}

function identity() {
  document.title = data.name;
  at("name").textContent = data.name;
  at("lead").textContent = data.lead;
  let before = null;
  for (const [name, value] of data.facts) {
    if (name !== before) element("dt", name, at("facts"));
    element("dd", value, at("facts"));
    before = name;
  }
}

const PER_PAGE = 36;
let inGallery = 0;

function caption(record) {
  if (record.label !== undefined && record.label !== null) {
    const label = shown(record.label);
    return record.class && record.class !== label ? `${label} ${record.class}` : `label ${label}`;
  }
  return record.net_id === undefined ? `network ${record.row}` : shown(record.net_id);
}

function metricOf(record) {
  if (!data.metric || record[data.metric] === null || record[data.metric] === undefined) return "";
  const value = record[data.metric];
  if (typeof value !== "number") return `${data.metric} ${shown(value)}`;
  if (data.metric === "psnr") return `${value.toFixed(1)} dB`;
  return data.metric.endsWith("accuracy") ? `accuracy ${value.toFixed(3)}` : `${data.metric} ${shown(value)}`;
}

function wholeRows() {
  const columns = getComputedStyle(at("gallery")).gridTemplateColumns.split(" ").length;
  return Math.ceil((inGallery + PER_PAGE) / columns) * columns;
}

function gallery() {
  const until = Math.min(wholeRows(), data.records.length);
  for (const record of data.records.slice(inGallery, until)) {
    const item = element("li", null, at("gallery"));
    const words = `${caption(record)}${metricOf(record) ? ", " + metricOf(record) : ""}`;
    if (record.image) {
      element("img", null, item, { src: record.image, alt: `Rendered by network ${record.row}: ${words}` });
    } else {
      const { low, high } = record.histogram;
      const spoken = `Histogram of the weights from ${brief(low)} to ${brief(high)}: ${words}`;
      const svg = drawn("svg", { role: "img", "aria-label": spoken }, item);
      bars(svg, record.histogram.counts);
    }
    element("b", caption(record), item, { title: caption(record) });
    element("span", metricOf(record), item);
    if (!record.image) element("span", `${brief(record.histogram.low)} to ${brief(record.histogram.high)}`, item);
  }
  inGallery = until;
  at("more").hidden = inGallery >= data.records.length;
  const kind = data.records.some((record) => record.image)
    ? "rendered from their weights"
    : "as histograms of their weights, each from its 0.5th to its 99.5th percentile";
  at("gallery-note").textContent = `${inGallery} of ${data.records.length} sampled networks, ${kind}.`;
}

let step = 0;
const WIDTH = 800, HEIGHT = 400;

function place(t, i) {
  const steps = data.steps, count = steps[t].nodes.length;
  const x = 40 + ((WIDTH - 80) * t) / Math.max(steps.length - 1, 1);
  return [x, count === 1 ? HEIGHT / 2 - 12 : 20 + ((HEIGHT - 65) * i) / (count - 1)];
}

function drawStep() {
  const svg = at("graph"), current = data.steps[step];
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  for (let t = 1; t <= step; t++) {
    for (const [from, to, weight] of data.steps[t].edges) {
      const [x1, y1] = place(t - 1, from), [x2, y2] = place(t, to);
      const line = drawn("line", { x1, y1, x2, y2, class: `edge ${weight < 0 ? "minus" : "plus"}` }, svg);
      if (t < step) line.classList.add("old");
      else line.setAttribute("stroke-opacity", Math.max(0.06, Math.abs(weight)));
    }
  }
  for (let t = 0; t <= step; t++) {
    data.steps[t].nodes.forEach((_, i) => {
      const [cx, cy] = place(t, i);
      drawn("circle", { cx, cy, r: 7, class: t === step ? "node new" : "node" }, svg);
    });
    // Many names would run into each other on a phone.
    if (data.steps.length > 7 && t % 4 !== 0) continue;
    const [x] = place(t, 0);
    drawn("text", { x, y: HEIGHT - 8, class: "tick" }, svg).textContent = `t=${t}`;
  }
  const some = current.nodes.length < current.total ? ` (${current.nodes.length} drawn)` : "";
  const last = data.steps.length - 1;
  at("step-text").textContent = `Network ${data.stepped}, timestamp ${step} of ${last}: ${current.text}${some}.`;
  at("step").value = step;
  at("step").setAttribute("aria-valuetext", `timestamp ${step} of ${last}`);
  at("previous").disabled = step === 0;
  at("next").disabled = step === last;
}

function go(to) {
  step = Math.min(Math.max(to, 0), data.steps.length - 1);
  drawStep();
}

function stepper() {
  at("step").max = data.steps.length - 1;
  at("previous").addEventListener("click", () => go(step - 1));
  at("next").addEventListener("click", () => go(step + 1));
  at("step").addEventListener("input", (event) => go(Number(event.target.value)));
  at("stepper").addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: step - 1, ArrowRight: step + 1, Home: 0, End: data.steps.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    go(moves[event.key]);
  });
  go(data.steps.length - 1);
}

function distributions() {
  for (const { name, low, high, counts } of data.distributions) {
    const figure = element("figure", null, at("distributions"));
    element("figcaption", name === "psnr" ? "psnr, dB" : name, figure);
    const fullest = Math.max(...counts);
    const words = `Histogram of ${name} from ${shown(low)} to ${shown(high)}; the fullest bin has ${fullest}`;
    bars(drawn("svg", { role: "img", "aria-label": words }, figure), counts);
    const ends = element("div", null, figure, { class: "ends" });
    element("span", shown(Number(low.toPrecision(3))), ends);
    element("span", `tallest: ${fullest.toLocaleString("en")} network${fullest === 1 ? "" : "s"}`, ends);
    element("span", shown(Number(high.toPrecision(3))), ends);
  }
}

const order = { column: null, sign: 1 };

function compare(a, b) {
  const first = a[order.column], second = b[order.column];
  const lacksFirst = first === null || first === undefined, lacksSecond = second === null || second === undefined;
  if (lacksFirst || lacksSecond) return lacksFirst - lacksSecond;
  const isNumber = typeof first === "number" && typeof second === "number";
  if (isNumber) return order.sign * (first - second);
  return order.sign * String(first).localeCompare(String(second), "en", { numeric: true });
}

const isNumeric = (column) =>
  data.records.every((record) => record[column] === null || typeof record[column] === "number");

function rows() {
  const wanted = at("search").value.trim().toLowerCase();
  const found = data.records.filter((record) =>
    data.columns.some((column) => shown(record[column]).toLowerCase().includes(wanted)));
  if (order.column !== null) found.sort(compare);
  at("rows").replaceChildren();
  for (const record of found) {
    const row = element("tr", null, at("rows"));
    for (const column of data.columns) {
      const cell = element("td", shown(record[column]), row, { title: shown(record[column]) });
      if (typeof record[column] === "number") cell.className = "number";
    }
  }
  at("found").textContent = `${found.length} of ${data.records.length}`;
}

function table() {
  for (const column of data.columns) {
    const cell = element("th", null, at("head"), { scope: "col", "aria-sort": "none" });
    if (isNumeric(column)) cell.className = "number";
    const button = element("button", column, cell, { type: "button" });
    button.addEventListener("click", () => {
      order.sign = order.column === column ? -order.sign : 1;
      order.column = column;
      for (const other of at("head").children) other.setAttribute("aria-sort", "none");
      cell.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
      rows();
    });
  }
  at("search").addEventListener("input", rows);
  rows();
}

identity();
gallery();
at("more").addEventListener("click", gallery);
stepper();
distributions();
table();
