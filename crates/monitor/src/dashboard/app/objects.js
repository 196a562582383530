// All objects of a kind, page by page: an update of the page has only those that most want to be looked at.

import { open } from "./dialog.js";
import { h } from "./dom.js";
import { count, fact, words } from "./format.js";
import { openList } from "./list.js";
import { actions, badge, empty } from "./parts.js";
import { post } from "./server.js";

const PAGE = 25;

/** Gives objects what they have in common, which is sent once for all of them. */
export function withClasses({ objects, classes }) {
  for (const object of objects) Object.assign(object, classes[object.class]);
  return objects;
}

/** A button that leads to all objects of a kind, when there are more than an update has. */
export function more(app, kind, title) {
  const total = app.state.totals[kind] ?? 0;
  const shown = app.state.objects.filter((object) => object.kind === kind).length;
  if (total <= shown) return null;
  return h("p", { class: "note", key: `more ${kind}` }, `The ${count(shown)} of ${count(total)} that most want to be looked at. `,
    h("button", { type: "button", class: "button", "data-more": kind, onclick: () => openObjects(app, kind, title) }, `All ${count(total)}`));
}

/** Opens a list of all objects of a kind. */
export function openObjects(app, kind, title) {
  let cursors = [""];
  let filter = "";
  let page = null;
  let failure = null;
  let isBusy = true;
  let wanted = 0;
  const load = async () => {
    const own = ++wanted;
    isBusy = true;
    failure = null;
    controls?.redraw();
    try {
      const read = await post("objects", { kind, filter, cursor: cursors.at(-1), count: PAGE });
      if (own !== wanted) return;
      withClasses(read);
      page = read;
    } catch (error) {
      if (own !== wanted) return;
      failure = error.message;
    }
    isBusy = false;
    controls.redraw();
  };
  const go = (change) => {
    change();
    load();
  };
  let controls = null;
  controls = open(title, () => [
    h("form", { class: "find", key: "find", onsubmit: (event) => { event.preventDefault(); go(() => { cursors = [""]; }); } },
      h("label", { class: "field" }, h("span", null, "With this in their names"),
        h("input", { type: "search", name: "filter", autocomplete: "off", spellcheck: "false", oninput: (event) => { filter = event.currentTarget.value; } })),
      h("button", { type: "submit", class: "button" }, "Find")),
    failure ? h("p", { class: "failure", role: "alert", key: "failure" }, failure) : null,
    page && page.objects.length === 0 ? empty("Nothing here.") : null,
    h("ol", { class: "items", key: "items", "aria-busy": isBusy ? "true" : "false" }, (page?.objects ?? []).map((object) => rowOf(app, object))),
    h("div", { class: "dialog-foot", key: "foot" },
      h("button", { type: "button", class: "button", key: "back", disabled: isBusy || cursors.length === 1, onclick: () => go(() => cursors.pop()) }, "Back"),
      h("span", { class: "muted", key: "page" }, isBusy || !page ? "Reading …" : `Page ${cursors.length} of ${Math.max(1, Math.ceil(page.total / PAGE))}`),
      h("button", { type: "button", class: "button", key: "next", disabled: isBusy || !page?.next, onclick: () => go(() => cursors.push(page.next)) }, "Next")),
  ], { wide: true });
  load();
}

function rowOf(app, object) {
  const facts = Object.entries({ ...object.facts, ...object.measured }).filter(([, value]) => value !== "" && value !== false && value !== 0);
  return h("li", { class: "item", key: object.name },
    h("div", { class: "item-head" },
      h("strong", { class: "item-name" }, object.name),
      h("span", { class: "item-actions" },
        object.lists.filter((list) => list.filter === "").map((list) =>
          h("button", { type: "button", class: "button", key: `list ${list.name}`, onclick: () => openList(app, object, list.name) }, words(list.name))),
        actions(app, object))),
    h("dl", { class: "facts" }, facts.map(([name, value]) =>
      h("div", { key: name }, h("dt", null, words(name)), h("dd", null, value === true ? badge("yes") : fact(name, value))))));
}
