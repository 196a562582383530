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
    ], all, (one) => one.name));
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
