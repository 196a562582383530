// The processes that are shown, and what was done through the page.

import { h } from "./dom.js";
import { age, count, moment, words } from "./format.js";
import { badge, empty, muted, panel, table } from "./parts.js";

export function processes(app) {
  const all = app.state.processes;
  return panel("processes", "Processes", { aside: muted(String(all.length)) },
    all.length === 0 ? empty("No process shows itself here now.") : table("Processes", [
      { title: "Program", cell: (one) => [h("strong", null, one.program), one.isThis ? [" ", badge("this one")] : null] },
      { title: "Host", cell: (one) => [one.host, muted(` process ${one.process}`)] },
      { title: "Up", align: "number", cell: (one) => age((one.at - one.started) / 1000) },
      { title: "Heard from", align: "number", cell: (one) => muted(`${age(Math.max(0, (app.state.at - one.at) / 1000))} ago`) },
      { title: "Connections", cell: (one) => one.clients.map((client) => h("span", { key: client.name, class: "client" },
        badge(client.name, client.isConnected && client.breaker === "closed" ? "ok" : "bad"), " ")) },
      { title: "In flight", align: "number", cell: (one) => count(one.clients.reduce((sum, client) => sum + client.inFlight, 0)) },
      { title: "Objects", align: "number", cell: (one) => count(one.objects) },
    ], all, (one) => one.id));
}

const TONES = { done: "ok", failed: "bad", refused: "bad", unknown: "warn", begun: "" };

export function audit(app) {
  if (app.audit === null) return null;
  if (app.audit.error) return panel("audit", "Audit", {}, h("p", { class: "failure" }, app.audit.error));
  const over = new Set(app.audit.map((entry) => entry.begun));
  // What has ended is shown by its end; what has only begun may have died on the way.
  const shown = app.audit.filter((entry) => entry.outcome !== "begun" || !over.has(entry.id)).slice(0, 30);
  return panel("audit", "Audit", { note: "Who did what through this page, and how it ended." },
    shown.length === 0 ? empty("Nothing was done yet.") : table("Audit", [
      { title: "When", cell: (entry) => muted(moment(entry.at)) },
      { title: "Who", cell: (entry) => h("strong", null, entry.viewer) },
      { title: "What", cell: (entry) => [`${words(entry.action)} `, h("span", { class: "muted" }, `${entry.kind} ${entry.name}`), entry.argument ? h("code", { class: "arguments" }, entry.argument) : null] },
      { title: "Outcome", cell: (entry) => badge(entry.outcome, TONES[entry.outcome]) },
      { title: "Detail", cell: (entry) => muted(entry.text ?? "") },
    ], shown, (entry) => entry.id));
}
