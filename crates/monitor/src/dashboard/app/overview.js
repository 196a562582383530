// Is it well, since when, what needs attention, and what goes on.

import { chart } from "./chart.js";
import { h } from "./dom.js";
import { age, bytes, count, latency, rate } from "./format.js";
import { actions, badge, ofKind, panel } from "./parts.js";

const TONES = { pass: "ok", warn: "warn", fail: "bad" };

export function verdict(app) {
  const { verdict: { level, text, since }, dependencies, processes, unread } = app.state;
  const seconds = Math.max(0, (Date.now() - since) / 1000);
  return h(
    "section",
    { class: `verdict ${level}`, id: "verdict", key: "verdict", "aria-labelledby": "verdict-text" },
    h("div", { class: "verdict-head" },
      h("span", { class: "pulse", "aria-hidden": "true" }),
      h("div", null,
        h("h1", { id: "verdict-text" }, `${text}.`),
        h("p", { class: "muted" }, `For ${age(seconds)} · ${processes.length} ${processes.length === 1 ? "process" : "processes"}${app.me?.namespace ? ` · ${app.me.namespace}` : ""}`))),
    unread ? h("p", { class: "failure" }, `The other processes cannot be read: ${unread}`) : null,
    h("ul", { class: "dependencies" }, dependencies.map((one) =>
      h("li", { key: one.name },
        badge(one.status, TONES[one.status]), " ",
        h("strong", null, one.name),
        h("span", { class: "muted" }, ` ${one.isHard ? "" : "soft · "}for ${age((Date.now() - one.since) / 1000)}`
          + `${one.status !== "pass" && one.instances > 1 ? ` · in ${one.affected} of ${one.instances}` : ""}${one.cause ? ` · ${one.cause}` : ""}`)))),
  );
}

export function attention(app) {
  const all = app.state.attention;
  if (all.length === 0) return null;
  return panel("attention", "Needs attention", { aside: badge(String(all.length), all[0].level), tone: "attention" },
    h("ul", { class: "attention-list" }, all.map((one, at) =>
      h("li", { key: `${one.kind}/${one.name}/${at}`, class: one.level },
        h("a", { href: `#${one.panel}` }, one.text)))));
}

export function traffic(app) {
  const point = app.points.at(-1) ?? {};
  const tile = (title, value, detail) =>
    h("div", { class: "tile", key: title }, h("dt", null, title), h("dd", { "data-tile": title }, value), detail ? h("dd", { class: "muted" }, detail) : null);
  const draw = (options) => chart({ points: app.points, redraw: app.redraw, ...options });
  return panel("traffic", "Traffic", {},
    h("dl", { class: "tiles" },
      tile("Calls", rate(point.ops), "of all processes"),
      tile("Errors", rate(point.errors), point.ops > 0 ? `${((point.errors / point.ops) * 100).toFixed(1)} % of calls` : ""),
      tile("p99, client", latency(point.p99), `p50 ${latency(point.p50)}`),
      tile("p99, server", latency(point.serverP99), `p50 ${latency(point.serverP50)}`),
      tile("Memory", bytes(point.memory), `${count(point.serverOps)} commands/s`)),
    h("div", { class: "charts" },
      draw({ key: "calls", title: "Calls per second", format: rate, band: (one) => one.breaker ?? 0,
        series: [
          { name: "calls", of: (one) => one.ops, tone: "blue", isFilled: true },
          { name: "errors", of: (one) => one.errors, tone: "red" },
        ] }),
      draw({ key: "latency", title: "Latency", format: latency,
        series: [
          { name: "p99", of: (one) => one.p99, tone: "violet", isFilled: true },
          { name: "p50", of: (one) => one.p50, tone: "blue" },
          { name: "server p99", of: (one) => one.serverP99, tone: "teal" },
          { name: "server p50", of: (one) => one.serverP50, tone: "grey" },
        ] })),
    breakerList(app));
}

/** Those that are not closed, and the others on demand. */
function breakerList(app) {
  const all = ofKind(app, "breaker").flatMap((breaker) => breaker.each.map(({ instance, facts }) => ({ breaker, instance, state: facts.state })));
  const closed = all.filter(({ state }) => state === "Closed");
  const others = all.filter(({ state }) => state !== "Closed");
  const row = ({ breaker, instance, state }) => {
    const process = app.state.processes.find((one) => one.id === instance);
    const tone = /^(Open|ForcedOpen)$/.test(state) ? "bad" : state === "Closed" ? "ok" : "warn";
    return h("li", { key: `${breaker.name}/${instance}` },
      h("span", null, badge(state.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase(), tone), ` Breaker of ${breaker.name}`,
        h("span", { class: "muted" }, process ? ` in ${process.program} on ${process.host}, ${process.process}` : "")),
      h("span", { class: "row-actions" }, actions(app, breaker, { instance, argument: "" })));
  };
  return [
    others.length > 0 ? h("ul", { class: "breakers", key: "open" }, others.map(row)) : null,
    closed.length > 0 ? h("details", { key: "closed" },
      h("summary", null, `${closed.length} ${closed.length === 1 ? "circuit breaker is" : "circuit breakers are"} closed`),
      h("ul", { class: "breakers" }, closed.map(row))) : null,
  ];
}
