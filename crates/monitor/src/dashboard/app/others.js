// Objects of kinds that have no panel of their own: whatever a program registers is shown.

import { h } from "./dom.js";
import { fact, words } from "./format.js";
import { openList } from "./list.js";
import { more } from "./objects.js";
import { actions, muted, panel, table } from "./parts.js";

const KNOWN = new Set(["client", "breaker", "topic", "cache", "write_behind", "limiter", "locks", "semaphore", "redlock", "idempotent", "election", "sessions"]);

export function others(app) {
  const all = app.state.objects.filter(({ kind }) => !KNOWN.has(kind));
  if (all.length === 0) return null;
  all.sort((a, b) => a.kind.localeCompare(b.kind) || a.name.localeCompare(b.name));
  const kinds = [...new Set(all.map(({ kind }) => kind))];
  return panel("others", "Others", {},
    table("Others", [
      { title: "Name", cell: (object) => [h("strong", null, object.name), muted(` ${words(object.kind).toLowerCase()}`)] },
      { title: "State", cell: (object) => muted(facts(object)) },
      { title: "", cell: (object) => h("div", { class: "row-actions" },
        object.lists.filter(({ filter }) => filter === "").map(({ name }) =>
          h("button", { type: "button", class: "button", key: `list ${name}`, onclick: () => openList(app, object, name) }, words(name))),
        actions(app, object)) },
    ], all, (object) => `${object.kind}/${object.name}`),
    kinds.map((kind) => more(app, kind, words(kind))));
}

function facts(object) {
  const all = Object.entries({ ...object.facts, ...object.measured }).filter(([, value]) => value !== "" && value !== false);
  return all.map(([name, value]) => (value === true ? words(name).toLowerCase() : `${words(name).toLowerCase()} ${fact(name, value)}`)).join(" · ") || "–";
}
