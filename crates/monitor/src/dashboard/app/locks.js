// Locks and leaders: who has what, since when, and for how much longer.

import { h } from "./dom.js";
import { act } from "./dialog.js";
import { age, count, rate } from "./format.js";
import { openList } from "./list.js";
import { more } from "./objects.js";
import { badge, leading, mayAct, muted, ofKind, panel, table } from "./parts.js";

export function locks(app) {
  const managers = ofKind(app, "locks");
  const others = ofKind(app, "semaphore", "redlock", "idempotent");
  const elections = ofKind(app, "election");
  if (managers.length + others.length + elections.length === 0) return null;
  return panel("locks", "Locks and leaders", {},
    managers.length === 0 ? null : table("Lock managers", [
      { title: "Manager", cell: (manager) => [h("strong", null, manager.name), manager.facts.is_fair ? [" ", badge("fair")] : null] },
      { title: "Held", align: "number", cell: (manager) => leading(count(manager.facts.held ?? 0), "Locks that are taken", () =>
        openList(app, manager, "locks", { title: `Locks of ${manager.name}`, hint: "" })) },
      { title: "Waiting", align: "number", cell: (manager) => count(manager.facts.waiting ?? 0) },
      { title: "Acquired", align: "number", cell: (manager) => rate(manager.rates.acquired ?? 0) },
      { title: "Found taken", align: "number", cell: (manager) => rate(manager.rates.taken ?? 0) },
      { title: "Lost", align: "number", cell: (manager) => h("span", { class: manager.facts.lost > 0 ? "bad" : "muted" }, count(manager.facts.lost ?? 0)) },
    ], managers, (manager) => manager.name),
    more(app, "locks", "Lock managers"),
    held(app, managers),
    elections.length === 0 ? null : table("Elections", [
      { title: "Election", cell: (election) => h("strong", null, election.name) },
      { title: "Leader", cell: (election) => {
        const leader = election.each.find(({ facts }) => facts.is_leader);
        return leader ? nameOf(app, leader.instance) : badge("none", "warn");
      } },
      { title: "Fence", align: "number", cell: (election) => muted(String(election.each.find(({ facts }) => facts.is_leader)?.facts.fence ?? "–")) },
      { title: "Standing", align: "number", cell: (election) => count(election.each.filter(({ facts }) => facts.is_standing).length) },
    ], elections, (election) => election.name),
    others.length === 0 ? null : table("Semaphores and others", [
      { title: "Name", cell: (one) => [h("strong", null, one.name), muted(` ${one.kind}`)] },
      { title: "Held", align: "number", cell: (one) => count(one.facts.held ?? one.facts.running) },
      { title: "Waiting", align: "number", cell: (one) => count(one.facts.waiting) },
      { title: "Lost", align: "number", cell: (one) => count(one.facts.lost ?? 0) },
    ], others, (one) => `${one.kind}/${one.name}`));
}

/** The locks that the processes themselves say they hold. */
function held(app, managers) {
  const rows = managers.flatMap((manager) => manager.items.map((item) => ({ manager, item })));
  if (rows.length === 0) return null;
  rows.sort((a, b) => b.item.held_for - a.item.held_for);
  const omitted = managers.reduce((sum, manager) => sum + manager.omitted, 0);
  return [
    table("Locks that are held", [
      { title: "Lock", cell: ({ item }) => [h("code", null, item.key), item.is_lost ? [" ", badge("lost", "bad")] : null] },
      { title: "Holder", cell: ({ item }) => nameOf(app, item.instance) },
      { title: "Held for", align: "number", cell: ({ item }) => age(item.held_for) },
      { title: "Remaining", align: "number", cell: ({ item }) => age(item.remaining) },
      { title: "Fence", align: "number", cell: ({ item }) => muted(String(item.fence)) },
      { title: "", cell: ({ manager, item }) => h("div", { class: "row-actions" }, forceRelease(app, manager, item)) },
    ], rows, ({ manager, item }) => `${manager.name}/${item.key}/${item.fence}`),
    omitted > 0 ? h("p", { class: "note", key: "omitted" }, `${count(omitted)} further locks: the numbers above lead to all of them.`) : null,
  ];
}

function forceRelease(app, manager, item) {
  const action = manager.actions.find(({ name }) => name === "force_release");
  if (!action || !mayAct(app, "locks", "force_release")) return null;
  return h("button", {
    type: "button", class: "button destructive", "data-action": "locks/force_release",
    onclick: () => act(app, manager, action, { argument: `${item.fence} ${item.key}`, subject: item.key }),
  }, "Force release");
}

function nameOf(app, instance) {
  const process = app.state.processes.find((one) => one.id === instance);
  return process ? [process.program, muted(` ${process.host}, ${process.process}`)] : muted("unknown");
}
