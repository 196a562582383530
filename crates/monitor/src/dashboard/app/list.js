// A list of what an object keeps at the server, page by page, down to the item.

import { h } from "./dom.js";
import { act, open } from "./dialog.js";
import { fact, words } from "./format.js";
import { badge, empty } from "./parts.js";
import { post } from "./server.js";

const PAGE = 25;

/** Opens a list. `filter` is needed where the list says so. */
export function openList(app, object, name, { filter = "", title, hint } = {}) {
  const list = object.lists.find((one) => one.name === name);
  let cursors = [""];
  let page = null;
  let failure = null;
  let isBusy = true;
  const opened = new Set();
  const load = async (controls) => {
    isBusy = true;
    failure = null;
    controls.redraw();
    try {
      page = await post("list", { kind: object.kind, name: object.name, list: name, filter, cursor: cursors.at(-1), count: PAGE });
    } catch (error) {
      failure = error.message;
    }
    isBusy = false;
    controls.redraw();
  };
  const go = (controls, change) => {
    change();
    opened.clear();
    load(controls);
  };
  const controls = open(title ?? `${words(name)} of ${object.name}`, (inner) => [
    h("p", { class: "note", key: "note" }, list?.description ?? "", hint ? ` ${hint}` : ""),
    failure ? h("p", { class: "failure", role: "alert", key: "failure" }, failure) : null,
    page?.hidden ? h("p", { class: "note", key: "hidden" }, "Payloads and headers are hidden: you have no right to see them.") : null,
    page && page.items.length === 0 ? empty("Nothing here.") : null,
    h("ol", { class: "items", key: "items", "aria-busy": isBusy ? "true" : "false" },
      (page?.items ?? []).map((item, at) => itemOf(app, object, item, `${cursors.length}/${at}`, opened, inner, () => load(inner)))),
    h(
      "div",
      { class: "dialog-foot", key: "foot" },
      h("button", { type: "button", class: "button", key: "back", disabled: isBusy || cursors.length === 1, onclick: () => go(inner, () => cursors.pop()) }, "Back"),
      h("span", { class: "muted", key: "page" }, isBusy ? "Reading …" : `Page ${cursors.length}`),
      h("button", { type: "button", class: "button", key: "next", disabled: isBusy || !page?.next, onclick: () => go(inner, () => cursors.push(page.next)) }, "Next"),
      h("button", { type: "button", class: "button", key: "again", disabled: isBusy, onclick: () => load(inner) }, "Read again"),
    ),
  ], { wide: true });
  load(controls);
}

function itemOf(app, object, item, key, opened, controls, reload) {
  const facts = Object.entries(item.facts).filter(([, value]) => value !== "" && value !== false);
  const [first, ...rest] = facts;
  const hasPayload = item.payload && Object.values(item.payload).some((value) => value !== "");
  const isOpen = opened.has(key);
  const toggle = () => {
    if (isOpen) opened.delete(key);
    else opened.add(key);
    controls.redraw();
  };
  return h(
    "li",
    { class: "item", key },
    h(
      "div",
      { class: "item-head" },
      h("strong", { class: "item-name" }, first ? fact(first[0], first[1]) : "–"),
      h(
        "span",
        { class: "item-actions" },
        hasPayload ? h("button", { type: "button", class: "button", "aria-expanded": isOpen ? "true" : "false", onclick: toggle, key: "payload" }, isOpen ? "Hide" : "Message") : null,
        item.actions.map(([name, argument]) => {
          const action = object.actions.find((one) => one.name === name);
          if (!action) return null;
          return h("button", {
            type: "button", key: name, class: action.is_destructive ? "button destructive" : "button", "data-action": `${object.kind}/${name}`,
            onclick: () => act(app, object, action, { argument, subject: first ? fact(first[0], first[1]) : "", after: reload }),
          }, words(name));
        }),
      ),
    ),
    h("dl", { class: "facts" }, rest.map(([name, value]) =>
      h("div", { key: name }, h("dt", null, words(name)), h("dd", null, value === true ? badge("yes") : fact(name, value))))),
    isOpen
      ? h("dl", { class: "payload" }, Object.entries(item.payload).filter(([, value]) => value !== "").map(([name, value]) =>
          h("div", { key: name }, h("dt", null, words(name)), h("dd", null, h("pre", { tabindex: "0" }, pretty(value))))))
      : null,
  );
}

function pretty(value) {
  if (typeof value !== "string") return String(value);
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}
