// Sessions: what the stores do, and the sessions of one user.

import { h } from "./dom.js";
import { age, count, rate } from "./format.js";
import { openList } from "./list.js";
import { more } from "./objects.js";
import { actions, muted, ofKind, panel, table } from "./parts.js";

const typed = new Map();

export function sessions(app) {
  const stores = ofKind(app, "sessions");
  if (stores.length === 0) return null;
  return panel("sessions", "Sessions", {},
    table("Session stores", [
      { title: "Store", cell: (store) => h("strong", null, store.name) },
      { title: "Sessions", align: "number", cell: (store) => countOf(app, store) },
      { title: "Found", align: "number", cell: (store) => rate(store.rates.found ?? 0) },
      { title: "Absent", align: "number", cell: (store) => rate(store.rates.absent ?? 0) },
      { title: "Not ours", align: "number", cell: (store) => h("span", { class: store.facts.malformed > 0 ? "warn" : "muted" }, count(store.facts.malformed ?? 0)) },
      { title: "Revoked", align: "number", cell: (store) => count(store.facts.revoked ?? 0) },
      { title: "Committed", align: "number", cell: (store) => rate(store.rates.committed ?? 0) },
      { title: "Ends when idle", align: "number", cell: (store) => muted(age(store.facts.idle_timeout)) },
      { title: "", cell: (store) => h("div", { class: "row-actions" }, actions(app, store, { only: ["revoke_all"] })) },
    ], stores, (store) => store.name),
    more(app, "sessions", "Session stores"),
    stores.map((store) =>
      h("form", { class: "find", key: `find ${store.name}`, onsubmit: (event) => {
        event.preventDefault();
        const user = typed.get(store.name) ?? "";
        if (user) openList(app, store, "of_user", { filter: user, title: `Sessions of ${user}` });
      } },
      h("label", { class: "field" }, h("span", null, stores.length > 1 ? `Sessions of a user in ${store.name}` : "Sessions of a user"),
        h("input", { type: "search", name: "user", autocomplete: "off", spellcheck: "false", placeholder: "the user's name", oninput: (event) => typed.set(store.name, event.currentTarget.value) })),
      h("button", { type: "submit", class: "button" }, "Show devices"))));
}

/** Counted by looking at some keys, now and then. */
function countOf(app, store) {
  const known = app.state.sessions[store.name];
  if (!known) return muted("–");
  return known.isEstimate ? [muted("about "), count(known.count)] : count(known.count);
}
