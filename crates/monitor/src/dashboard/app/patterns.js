// Caches, queues of write-behind, and limits.

import { h } from "./dom.js";
import { age, count, percent, rate, share, words } from "./format.js";
import { more } from "./objects.js";
import { actions, badge, meter, muted, ofKind, panel, table } from "./parts.js";

export function caches(app) {
  const all = ofKind(app, "cache");
  const queues = ofKind(app, "write_behind");
  if (all.length + queues.length === 0) return null;
  const hits = (facts) => (facts.hits ?? 0) + (facts.l1_hits ?? 0);
  const lookups = (facts) => hits(facts) + (facts.misses ?? 0);
  const perSecond = (cache) => lookups(cache.rates);
  all.sort((a, b) => perSecond(b) - perSecond(a) || a.name.localeCompare(b.name));
  return panel("caches", "Caches", {},
    all.length === 0 ? null : table("Caches", [
      { title: "Cache", cell: (cache) => h("strong", null, cache.name) },
      { title: "Hit rate", cell: (cache) => lookups(cache.facts) === 0 ? muted("no look-ups") : h("div", { class: "with-meter" },
        h("b", null, share(hits(cache.facts), lookups(cache.facts))), hitMeter(hits(cache.facts) / lookups(cache.facts))) },
      { title: "Look-ups", align: "number", cell: (cache) => rate(perSecond(cache)) },
      { title: "From L1", align: "number", cell: (cache) => share(cache.facts.l1_hits ?? 0, hits(cache.facts)) },
      { title: "Loads", align: "number", cell: (cache) => rate(cache.rates.loads ?? 0) },
      { title: "Failed loads", align: "number", cell: (cache) => h("span", { class: cache.facts.load_failures > 0 ? "warn" : "muted" }, count(cache.facts.load_failures ?? 0)) },
      { title: "Stale", align: "number", cell: (cache) => count(cache.facts.stale ?? 0) },
      { title: "In L1", align: "number", cell: (cache) => count(cache.facts.l1_entries ?? 0) },
      { title: "", cell: (cache) => h("div", { class: "row-actions" }, actions(app, cache)) },
    ], all, (cache) => cache.name),
    more(app, "cache", "Caches"),
    queues.length === 0 ? null : table("Write-behind queues", [
      { title: "Write-behind", cell: (queue) => h("strong", null, queue.name) },
      { title: "Oldest", align: "number", cell: (queue) => age(greatest(queue, "oldest")) },
      { title: "Pending", align: "number", cell: (queue) => count(greatest(queue, "pending")) },
      { title: "Dead", align: "number", cell: (queue) => h("span", { class: greatest(queue, "dead_letters") > 0 ? "bad" : "muted" }, count(greatest(queue, "dead_letters"))) },
      { title: "Written", align: "number", cell: (queue) => rate(queue.rates.written ?? 0) },
      { title: "Retries", align: "number", cell: (queue) => count(queue.facts.retries ?? 0) },
      { title: "", cell: (queue) => h("div", { class: "row-actions" }, actions(app, queue)) },
    ], queues, (queue) => queue.name));
}

/** Each process has counted the same at the server. */
function greatest(object, fact) {
  return Math.max(0, ...object.each.map(({ facts }) => facts[fact] ?? 0));
}

function hitMeter(part) {
  // A meter warns of what is nearly full; a cache that nearly always hits is well.
  return h("svg", { class: `meter ${part < 0.5 ? "warn" : "ok"}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": `hit rate ${percent(part)}` },
    h("rect", { class: "track", x: 0, y: 0, width: 100, height: 6 }),
    h("rect", { class: "fill", x: 0, y: 0, width: (part * 100).toFixed(1), height: 6 }));
}

const MODES = ["redis", "deny_cache", "local", "open", "closed"];

export function limits(app) {
  const all = ofKind(app, "limiter");
  if (all.length === 0) return null;
  const denied = (limiter) => limiter.rates.denied ?? 0;
  all.sort((a, b) => denied(b) - denied(a) || (b.facts.denied ?? 0) - (a.facts.denied ?? 0) || a.name.localeCompare(b.name));
  return panel("limits", "Limits", {},
    table("Limiters", [
      { title: "Limiter", cell: (limiter) => [h("strong", null, limiter.name), limiter.facts.is_outage ? [" ", badge("without Redis", "warn")] : null] },
      { title: "Policies", cell: (limiter) => h("ul", { class: "policies" }, policiesOf(limiter).map((item) =>
        h("li", { key: item.policy }, `${count(item.limit)} in ${age(item.window)}`, muted(` ${item.policy === item.algorithm ? "" : `${item.policy}, `}${words(item.algorithm ?? "").toLowerCase()}`)))) },
      { title: "Decisions", align: "number", cell: (limiter) => rate(limiter.rates.decisions ?? 0) },
      { title: "Denied", align: "number", cell: (limiter) => h("span", { class: denied(limiter) > 0 ? "warn" : "" }, rate(denied(limiter))) },
      { title: "Denied in all", cell: (limiter) => h("div", { class: "with-meter" },
        h("b", null, share(limiter.facts.denied ?? 0, limiter.facts.decisions ?? 0)), meter((limiter.facts.denied ?? 0) / Math.max(1, limiter.facts.decisions ?? 0), "share of denied calls")) },
      { title: "Decided by", cell: (limiter) => muted(MODES.filter((mode) => limiter.facts[`by_${mode}`] > 0)
        .map((mode) => `${words(mode).toLowerCase()} ${count(limiter.facts[`by_${mode}`])}`).join(" · ") || "–") },
      { title: "", cell: (limiter) => h("div", { class: "row-actions" }, actions(app, limiter)) },
    ], all, (limiter) => limiter.name),
    more(app, "limiter", "Limiters"));
}

/** All processes have the same. */
function policiesOf(limiter) {
  const known = new Map(limiter.items.map((item) => [item.policy, item]));
  return [...known.values()];
}
