// The servers: memory, evictions, replication; slow commands and hot keys.

import { h } from "./dom.js";
import { age, bytes, count, exact, latency, moment, share } from "./format.js";
import { badge, empty, meter, muted, panel, table } from "./parts.js";

export function servers(app) {
  const { servers: all, failed, error } = app.state.servers;
  return panel("servers", "Servers", { aside: muted(`${all.length} ${all.length === 1 ? "server" : "servers"}`) },
    error ? h("p", { class: "failure" }, error) : null,
    failed.map((one) => h("p", { class: "failure", key: one.name }, `${one.name}: ${one.error}`)),
    all.length === 0 ? null : table("Servers", [
      { title: "Server", cell: (one) => [h("strong", null, one.name), h("div", { class: "muted" }, `${one.version} · ${one.role} · up ${age(one.uptime)}`)] },
      { title: "Memory", cell: (one) => one.maxmemory > 0
        ? h("div", { class: "with-meter" }, h("b", null, bytes(one.memory)), meter(one.memory / one.maxmemory, `memory: ${share(one.memory, one.maxmemory)}`), muted(`of ${bytes(one.maxmemory)}`))
        : [bytes(one.memory), muted(" no limit")] },
      { title: "Policy", cell: (one) => [one.policy || "–", one.evicted > 0 ? [" ", badge(`${count(one.evicted)} evicted`, "warn")] : null] },
      { title: "Keys", align: "number", cell: (one) => count(one.keys) },
      { title: "Commands", align: "number", cell: (one) => `${count(one.ops)}/s` },
      { title: "Hit rate", align: "number", cell: (one) => share(one.hits, one.lookups) },
      { title: "Clients", align: "number", cell: (one) => [count(one.clients), one.blocked > 0 ? muted(` ${one.blocked} blocked`) : null] },
      { title: "Replicas", cell: (one) => replication(one) },
      { title: "Saved", align: "number", cell: (one) => one.isPersisting ? muted(one.lastSave === null ? "–" : `${age(one.lastSave)} ago`) : badge("failing", "warn") },
    ], all, (one) => one.name),
    slotMap(app));
}

const SLOTS = 16_384;

/** Which server of a cluster has which slots: a strip for each. */
function slotMap(app) {
  const map = app.state.slots;
  if (!map) return null;
  const busiest = app.logs?.slots ?? [];
  const of = ({ ranges }) => ranges.reduce((sum, [from, to]) => sum + to - from + 1, 0);
  const missing = SLOTS - map.reduce((sum, server) => sum + of(server), 0);
  return [
    table("Slots", [
      { title: "Slots of", cell: (server) => h("strong", null, server.server) },
      { title: "Map", cell: (server) => h("svg", { class: "slots", viewBox: `0 0 ${SLOTS} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `slots ${server.ranges.map(([from, to]) => `${from} to ${to}`).join(", ")}` },
        h("rect", { class: "track", x: 0, y: 0, width: SLOTS, height: 100 }),
        server.ranges.map(([from, to]) => h("rect", { class: "fill", key: String(from), x: from, y: 0, width: to - from + 1, height: 100 }))) },
      { title: "Count", align: "number", cell: (server) => exact(of(server)) },
      { title: "Busiest", cell: (server) => muted(busiest.filter(({ slot }) => server.ranges.some(([from, to]) => from <= slot && slot <= to)).slice(0, 3)
        .map(({ slot, keys }) => `${slot} (${count(keys)} keys)`).join(", ") || "–") },
    ], map, (server) => server.server),
    missing > 0 ? h("p", { class: "failure", key: "missing" }, `${exact(missing)} slots have no server.`) : null,
  ];
}

function replication(one) {
  if (one.isLoading) return badge("loading", "bad");
  if (one.role === "replica") return one.isMasterLinkUp ? badge("in sync", "ok") : badge("no master", "bad");
  if (one.replicas.length === 0) return muted("none");
  return h("ul", { class: "policies" }, one.replicas.map((replica) =>
    h("li", { key: replica.address }, badge(replica.isOnline ? "online" : "off", replica.isOnline ? "ok" : "bad"), ` ${replica.address}`, muted(` ${bytes(replica.behind)} behind`))));
}

export function logs(app) {
  const read = app.logs;
  if (read === null) return null;
  if (read.error) return panel("slow", "Slow commands", {}, h("p", { class: "failure" }, read.error));
  return panel("slow", "Slow commands", { aside: muted(`${read.slow.length}`), note: read.hidden ? "Arguments are hidden: you have no right to see them." : null },
    read.slow.length === 0 ? empty("No command was slow.") : table("Slow commands", [
      { title: "Command", cell: (row) => [h("strong", null, row.command), row.arguments ? h("code", { class: "arguments" }, row.arguments) : null] },
      { title: "Took", align: "number", cell: (row) => latency(row.micros / 1000) },
      { title: "When", cell: (row) => muted(moment(row.at)) },
      { title: "Server", cell: (row) => muted(row.server) },
    ], read.slow.slice(0, 20), (row) => `${row.server}/${row.id}`),
    read.hot ? table("Hot keys", [
      { title: "Hot key", cell: (row) => h("code", null, row.key) },
      { title: "Processor time", align: "number", cell: (row) => exact(row.amount) },
    ], read.hot, (row) => `${row.server}/${row.key}`) : null);
}
