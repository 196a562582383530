// Charts: lines over time, drawn as SVG. The values at a moment are read by pointing, or with the arrow keys once a chart
// has the focus; what is read is the same for all charts.

import { h } from "./dom.js";
import { clock, isNumber } from "./format.js";

const WIDTH = 600;
const HEIGHT = 120;
/** Points that are further apart are not joined (ms). */
const GAP = 6_000;

/** The moment that is read in all charts (ms since 1970), or nothing for the latest. */
let moment = null;

function span(points) {
  const last = points.at(-1)?.t ?? Date.now();
  const first = points[0]?.t ?? last;
  const width = Math.min(600_000, Math.max(60_000, last - first));
  return { from: last - width, to: last, width };
}

function nearest(points, time) {
  let best = points.length - 1;
  for (let at = 0; at < points.length; at += 1) {
    if (Math.abs(points[at].t - time) < Math.abs(points[best].t - time)) best = at;
  }
  return best;
}

function niceMaximum(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

function pathOf(points, of, x, y, closed) {
  let path = "";
  let begun = null;
  let before = null;
  const close = () => {
    if (closed && begun !== null && before !== null) path += `L${x(before)},${HEIGHT}L${x(begun)},${HEIGHT}Z`;
    begun = null;
  };
  for (const point of points) {
    const value = of(point);
    if (!isNumber(value)) {
      close();
      before = null;
      continue;
    }
    const joined = before !== null && point.t - before < GAP;
    if (!joined) {
      close();
      begun = point.t;
    }
    path += `${joined ? "L" : "M"}${x(point.t)},${y(value)}`;
    before = point.t;
  }
  close();
  return path;
}

/** `series`: `{ name, of, tone, isFilled }`; `band`: 0, 1 or 2 for each point. */
export function chart({ key, title, points, series, format, band, redraw }) {
  const { from, to, width } = span(points);
  const shown = points.filter((point) => point.t >= from);
  const values = shown.flatMap((point) => series.map(({ of }) => of(point))).filter(isNumber);
  const top = niceMaximum(Math.max(0, ...values));
  const x = (time) => (((time - from) / width) * WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - 2 - (value / top) * (HEIGHT - 8)).toFixed(1);
  const at = shown.length === 0 ? -1 : moment === null ? shown.length - 1 : nearest(shown, moment);
  const point = shown[at];
  const read = (value) => {
    moment = value === null || at === -1 ? null : value;
    redraw();
  };
  const readings = series.map(({ name, of, tone }) =>
    h("span", { class: "reading", key: name }, h("i", { class: `dot ${tone}` }), `${name} `, h("b", null, point ? format(of(point)) : "–")),
  );
  const spoken = point
    ? `${clock(point.t)}: ${series.map(({ name, of }) => `${name} ${format(of(point))}`).join(", ")}`
    : "nothing yet";
  const drawing = h(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    [0.25, 0.5, 0.75].map((part) =>
      h("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(top * part), y2: y(top * part), key: `grid${part}` }),
    ),
    series.filter(({ isFilled }) => isFilled).map(({ name, of, tone }) =>
      h("path", { class: `area ${tone}`, d: pathOf(shown, of, x, y, true), key: `area ${name}` }),
    ),
    series.map(({ name, of, tone }) => h("path", { class: `line ${tone}`, d: pathOf(shown, of, x, y, false), key: `line ${name}` })),
    point && moment !== null ? h("line", { class: "cursor", x1: x(point.t), x2: x(point.t), y1: 0, y2: HEIGHT, key: "cursor" }) : null,
  );
  const move = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    read(from + ((event.clientX - box.left) / box.width) * width);
  };
  return h(
    "figure",
    { class: "chart", key, id: `chart-${key}` },
    h("figcaption", null, h("h3", null, title), h("span", { class: "when" }, point ? (moment === null ? "now" : clock(point.t)) : "")),
    h("div", { class: "readings" }, readings),
    h(
      "div",
      { class: "plot", onpointermove: move, onpointerleave: () => read(null) },
      drawing,
      h("span", { class: "scale" }, format(top)),
      h("input", {
        type: "range", class: "scrub", min: 0, max: Math.max(0, shown.length - 1), step: 1, value: Math.max(0, at),
        "aria-label": `${title}: read a moment`, "aria-valuetext": spoken,
        oninput: (event) => read(shown[Number(event.currentTarget.value)]?.t ?? null),
        onblur: () => read(null),
      }),
    ),
    band ? bandOf(shown, band, x, from, to) : null,
    h("p", { class: "axis" }, h("span", null, clock(from)), h("span", null, clock(to))),
  );
}

const STATES = ["closed", "half open", "open"];

function bandOf(points, band, x, from, to) {
  const runs = [];
  for (const point of points) {
    const last = runs.at(-1);
    if (last && last.state === band(point) && point.t - last.to < GAP) last.to = point.t;
    else runs.push({ state: band(point), from: last && point.t - last.to < GAP ? last.to : point.t, to: point.t });
  }
  const now = points.length ? band(points.at(-1)) : 0;
  return h(
    "div",
    { class: "band" },
    h("span", null, "Circuit breaker ", h("b", { class: `state${now}` }, STATES[now])),
    h(
      "svg",
      { viewBox: `0 0 ${WIDTH} 8`, preserveAspectRatio: "none", "aria-hidden": "true" },
      runs.map((run) =>
        h("rect", { key: run.from, class: `state${run.state}`, x: x(Math.max(run.from, from)), y: 0, height: 8, width: Math.max(2, x(Math.min(run.to, to)) - x(Math.max(run.from, from))) }),
      ),
    ),
  );
}
