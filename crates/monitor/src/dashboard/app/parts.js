// What panels are made of.

import { h } from "./dom.js";
import { words } from "./format.js";
import { act } from "./dialog.js";

/** A panel with a heading. `aside` stands beside the heading. */
export function panel(id, title, { aside, note, tone } = {}, ...content) {
  return h(
    "section",
    { class: `panel ${tone ?? ""}`, id, key: id, "aria-labelledby": `${id}-title`, tabindex: "-1" },
    h("div", { class: "panel-head" }, h("h2", { id: `${id}-title` }, title), aside ? h("div", { class: "aside" }, aside) : null),
    note ? h("p", { class: "note" }, note) : null,
    content,
  );
}

/**
 * A table whose rows become cards where there is little room.
 * `columns`: `{ title, cell, align }`; `rows`: anything; `keyOf` names a row.
 */
export function table(label, columns, rows, keyOf) {
  return h(
    "div",
    { class: "table", key: label },
    h(
      "table",
      null,
      h("caption", { class: "hidden" }, label),
      h("thead", null, h("tr", null, columns.map((column) =>
        h("th", { scope: "col", key: column.title, class: column.align ?? null }, column.title || h("span", { class: "hidden" }, "Actions"))))),
      h("tbody", null, rows.map((row) =>
        h("tr", { key: keyOf(row) }, columns.map((column, at) =>
          h(at === 0 ? "th" : "td", { key: column.title, "data-title": column.title, scope: at === 0 ? "row" : null, class: column.align ?? null }, h("div", { class: "cell" }, column.cell(row))))))),
    ),
  );
}

export const badge = (text, tone) => h("span", { class: `badge ${tone ?? ""}` }, text);

export const muted = (text) => h("span", { class: "muted" }, text);

export function empty(text) {
  return h("p", { class: "empty" }, text);
}

/** A share as a bar. */
export function meter(share, label) {
  const part = Math.max(0, Math.min(1, share || 0));
  const tone = part > 0.9 ? "bad" : part > 0.75 ? "warn" : "ok";
  return h(
    "svg",
    { class: `meter ${tone}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": label },
    h("rect", { class: "track", x: 0, y: 0, width: 100, height: 6 }),
    h("rect", { class: "fill", x: 0, y: 0, width: (part * 100).toFixed(1), height: 6 }),
  );
}

/** A number that leads to its items. */
export function leading(text, label, onclick, tone) {
  return h("button", { type: "button", class: `leading ${tone ?? ""}`, onclick, "aria-label": `${label}: ${text}` }, text);
}

export const mayAct = (app, kind, action) =>
  app.me !== null && (app.me.rights.actions === "all" || app.me.rights.actions.includes(`${kind}/${action}`));

/** Buttons for the actions of an object that the viewer has a right to. */
export function actions(app, object, { only, instance, argument } = {}) {
  const offered = object.actions.filter(({ name }) => (!only || only.includes(name)) && mayAct(app, object.kind, name));
  return offered.map((action) =>
    h("button", {
      type: "button", key: action.name, class: action.is_destructive ? "button destructive" : "button",
      "data-action": `${object.kind}/${action.name}`, "data-object": object.name,
      onclick: () => act(app, object, action, { instance, argument }),
    }, words(action.name)),
  );
}

/** The objects of one kind, those that need to be looked at first. */
export const ofKind = (app, ...kinds) => app.state.objects.filter((object) => kinds.includes(object.kind));
