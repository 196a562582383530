// Topics: how long the oldest message has waited comes first.

import { h } from "./dom.js";
import { age, count, rate } from "./format.js";
import { openList } from "./list.js";
import { more } from "./objects.js";
import { actions, badge, empty, leading, muted, ofKind, panel, table } from "./parts.js";

export function topics(app) {
  const all = ofKind(app, "topic");
  if (all.length === 0) return null;
  const oldest = (topic) => topic.measured.oldest_pending ?? 0;
  all.sort((a, b) => oldest(b) - oldest(a) || a.name.localeCompare(b.name));
  const number = (value, tone) => h("span", { class: value > 0 ? tone ?? "" : "muted" }, count(value ?? 0));
  return panel("topics", "Topics", { aside: muted(`${count(app.state.totals.topic)} ${app.state.totals.topic === 1 ? "group" : "groups"}`) },
    table("Groups of topics", [
      { title: "Topic / group", cell: (topic) => [h("strong", null, topic.name), topic.measured.is_paused ? [" ", badge("paused", "warn")] : null] },
      { title: "Oldest", align: "number", cell: (topic) => ageOf(topic) },
      { title: "Waiting", align: "number", cell: (topic) => number((topic.measured.lag ?? 0) + (topic.measured.delayed ?? 0)) },
      { title: "Pending", align: "number", cell: (topic) => leading(count(topic.measured.pending ?? 0), "Pending messages", () => openList(app, topic, "pending")) },
      { title: "Retries", align: "number", cell: (topic) => number(topic.measured.retries, "warn") },
      { title: "Dead", align: "number", cell: (topic) => leading(count(topic.measured.dead_letters ?? 0), "Dead letters", () => openList(app, topic, "dead_letters"), topic.measured.dead_letters > 0 ? "bad" : "") },
      { title: "Workers", align: "number", cell: (topic) => h("span", { class: topic.measured.consumers === 0 ? "bad" : "" }, count(topic.measured.consumers)) },
      { title: "Done", align: "number", cell: (topic) => rate(topic.rates.acknowledged ?? 0) },
      { title: "", cell: (topic) => h("div", { class: "row-actions" }, offered(app, topic)) },
    ], all, (topic) => topic.name),
    more(app, "topic", "Groups of topics"),
    all.some((topic) => topic.measureError) ? empty(all.find((topic) => topic.measureError).measureError) : null);
}

function ageOf(topic) {
  const oldest = topic.measured.oldest_pending;
  const tone = oldest > 300 ? "bad" : oldest > 30 ? "warn" : oldest > 0 ? "" : "muted";
  return h("span", { class: tone }, oldest > 0 ? age(oldest) : "none");
}

function offered(app, topic) {
  const names = [topic.measured.is_paused ? "resume" : "pause"];
  if (topic.measured.dead_letters > 0) names.unshift("redrive");
  return actions(app, topic, { only: names, argument: "" });
}
