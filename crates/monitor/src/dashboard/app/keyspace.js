// The key space: what takes the memory, on demand, with progress, and to be cancelled.

import { h } from "./dom.js";
import { toast } from "./dialog.js";
import { age, bytes, count, exact, share } from "./format.js";
import { badge, empty, muted, panel, table } from "./parts.js";
import { get, post } from "./server.js";

let isAsking = false;

async function ask(app, request) {
  try {
    app.analysis = await request();
  } catch (error) {
    toast(error.message, "bad");
  }
  app.redraw();
  if (app.analysis?.state === "running" && !isAsking) {
    isAsking = true;
    setTimeout(() => {
      isAsking = false;
      ask(app, () => get("analysis"));
    }, 400);
  }
}

export function keyspace(app) {
  if (!app.me?.rights.analysis) return null;
  const found = app.analysis;
  const isRunning = found?.state === "running";
  const begin = (every) => ask(app, () => post("analysis/begin", { sample_every: every }));
  const aside = isRunning
    ? h("button", { type: "button", class: "button", key: "cancel", onclick: () => ask(app, () => post("analysis/cancel", {})) }, "Cancel")
    : [
        h("button", { type: "button", class: "button", key: "sample", onclick: () => begin(10) }, "Sample a tenth"),
        h("button", { type: "button", class: "button solid", key: "all", onclick: () => begin(1) }, "Look at all"),
      ];
  return panel("keyspace", "Key space", { aside, note: "The servers go through their keys at 5,000 a second. All keys are counted; sizes and times to live are those of the keys that are looked at." },
    isRunning ? progress(found) : null,
    found?.state === "failed" ? h("p", { class: "failure" }, found.error) : null,
    found?.state === "done" ? report(found) : null);
}

function progress(found) {
  const part = found.total > 0 ? Math.min(1, found.scanned / found.total) : 0;
  return h("div", { class: "progress", key: "progress" },
    h("progress", { max: 1, value: part, "aria-label": "Keys seen" }),
    muted(`${exact(found.scanned)} of about ${exact(found.total)} keys`));
}

function report(found) {
  const classes = found.ttl.map((keys, at) => ({
    keys,
    title: at === 0 ? `under ${age(found.ttlBounds[0])}` : at < found.ttlBounds.length ? `to ${age(found.ttlBounds[at])}` : `over ${age(found.ttlBounds.at(-1))}`,
  }));
  classes.push({ keys: found.withoutTtl, title: "for ever" });
  return [
    h("p", { key: "sum" }, `${exact(found.scanned)} keys in ${age(found.took)}, ${exact(found.sampled)} looked at. `,
      found.isComplete ? null : badge("not all were seen", "warn"),
      found.orphans > 0 ? badge(`${exact(found.orphans)} without a time to live that should have one`, "bad") : null),
    found.failed.map((text) => h("p", { class: "failure", key: text }, text)),
    h("h3", { key: "ttl-title" }, "Time to live"),
    histogram(classes),
    found.prefixes.length === 0 ? empty("There are no keys.") : table("Keys by prefix", [
      { title: "Prefix", cell: (row) => h("code", null, row.prefix || "(none)") },
      { title: "Keys", align: "number", cell: (row) => exact(row.keys) },
      { title: "Size", align: "number", cell: (row) => bytes(row.bytes) },
      { title: "Without TTL", align: "number", cell: (row) => share(row.withoutTtl, row.sampled) },
    ], found.prefixes.slice(0, 40), (row) => row.prefix),
    found.biggest.length === 0 ? null : table("The biggest keys", [
      { title: "Biggest key", cell: (row) => h("code", null, row.key) },
      { title: "Type", cell: (row) => row.kind },
      { title: "Size", align: "number", cell: (row) => bytes(row.bytes) },
    ], found.biggest.slice(0, 20), (row) => row.key),
  ];
}

function histogram(classes) {
  const most = Math.max(1, ...classes.map(({ keys }) => keys));
  return h("ol", { class: "histogram", key: "histogram" }, classes.map(({ keys, title }) =>
    h("li", { key: title },
      h("span", { class: "muted" }, title),
      h("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, h("rect", { x: 0, y: 0, height: 8, width: ((keys / most) * 100).toFixed(1) })),
      h("b", null, count(keys)))));
}
