"use strict";
// The scripts are put together into one, in the order base, model, lanes, timeline, tables, details, main. Everything that
// comes from the data is shown through textContent, never as markup.

const $ = (id) => document.getElementById(id);

/** A new element: make("td", {class: "number"}, "text", child, ...). */
function make(tag, attributes, ...children) {
  const space = ["svg", "g", "rect", "text", "path", "title"].includes(tag) && attributes && attributes.svg;
  const element = space
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "svg" || value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((each) => each !== null && each !== undefined));
  return element;
}

const plain = new Intl.NumberFormat("en");
const number = (value) => plain.format(value);

/** What stands before and behind the name of the cause in the text of a reason. */
function aroundCause(text) {
  const something = "something that it read";
  const at = text.indexOf(something);
  return at < 0 ? [`${text}: `, ""] : [text.slice(0, at), text.slice(at + something.length)];
}

/** A number and what is counted: "1 run", "2,000 runs". */
const counted = (n, what) => `${number(n)} ${what}${n === 1 ? "" : "s"}`;

/** Microseconds with three significant digits and a unit. */
function time(value) {
  const size = Math.abs(value);
  if (size < 0.05) return "0";
  const [unit, scale] = size < 999.5 ? ["µs", 1] : size < 999500 ? ["ms", 1e3] : ["s", 1e6];
  const shown = size / scale;
  const digits = shown < 9.995 ? 2 : shown < 99.95 ? 1 : 0;
  return `${value < 0 ? "-" : ""}${shown.toFixed(digits)} ${unit}`;
}

/** The place of the first item in [low, high) for which `test` holds; it holds for all behind it. */
function firstWhere(low, high, test) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Groups the numbers 0..n-1 by `keyOf`, which is below `nKeys`: those of key k are items[starts[k]..starts[k+1]). */
function grouped(n, nKeys, keyOf) {
  const starts = new Uint32Array(nKeys + 1);
  for (let i = 0; i < n; i++) {
    const key = keyOf(i);
    if (key >= 0) starts[key + 1]++;
  }
  for (let k = 0; k < nKeys; k++) starts[k + 1] += starts[k];
  const items = new Uint32Array(starts[nKeys]);
  const next = starts.slice(0, nKeys);
  for (let i = 0; i < n; i++) {
    const key = keyOf(i);
    if (key >= 0) items[next[key]++] = i;
  }
  return { of: (key) => items.subarray(starts[key], starts[key + 1]) };
}

/** Calls `act` once the typing has paused. */
function paused(act) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, 120);
  };
}

/** The data block: JSON, or base64 of its deflate. */
async function loadData() {
  const block = $("data");
  if (block.dataset.form === "json") return JSON.parse(block.textContent);
  const raw = atob(block.textContent);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = JSON.parse(await new Response(stream).text());
  block.textContent = "";
  return data;
}
