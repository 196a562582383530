// Dialogs: asking before an action is done, and telling what came of it.

import { element, h, patch } from "./dom.js";
import { words } from "./format.js";
import { post } from "./server.js";

/** Tells something for a moment. */
export function toast(text, tone) {
  const box = element(h("p", { class: `toast ${tone}` }, text));
  const toasts = document.getElementById("toasts");
  toasts.append(box);
  while (toasts.childElementCount > 4) toasts.firstElementChild.remove();
  setTimeout(() => box.remove(), tone === "bad" ? 12_000 : 6_000);
}

/** Opens a dialog, modal, that is taken away when it is closed. `draw` gives its content for a redraw function. */
export function open(title, draw, { wide } = {}) {
  const before = document.activeElement;
  const dialog = element(h("dialog", { class: wide ? "dialog wide" : "dialog", "aria-labelledby": "dialog-title", own: true }));
  const redraw = () => {
    const close = h("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "×");
    patch(dialog, [
      h("div", { class: "dialog-head", key: "head" }, h("h2", { id: "dialog-title" }, title), close),
      h("div", { class: "dialog-body", key: "body" }, draw({ redraw, close: () => dialog.close() })),
    ]);
  };
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  });
  redraw();
  document.body.append(dialog);
  dialog.showModal();
  return { redraw, close: () => dialog.close(), isOpen: () => dialog.isConnected };
}

/** Asks, and does an action. Resolves to whether it was done. */
export function act(app, object, action, { instance, argument, subject, after } = {}) {
  let typed = argument ?? "";
  let isBusy = false;
  let failure = null;
  const needsArgument = action.argument !== "" && argument === undefined;
  const optional = needsArgument && action.argument.includes("nothing for all");
  const submit = async (event, controls) => {
    event.preventDefault();
    isBusy = true;
    failure = null;
    controls.redraw();
    try {
      const done = await post("act", { kind: object.kind, name: object.name, action: action.name, argument: typed, instance: instance ?? "" });
      controls.close();
      toast(`${object.name}: ${done.text}`, "ok");
      after?.();
    } catch (error) {
      failure = error.message;
      isBusy = false;
      controls.redraw();
    }
  };
  open(words(action.name), (controls) =>
    h(
      "form",
      { onsubmit: (event) => submit(event, controls) },
      h("p", null, h("strong", null, object.name), subject ? h("span", { class: "muted" }, ` · ${subject}`) : null),
      h("p", null, action.description),
      action.is_destructive ? h("p", { class: "warning" }, "This cannot be taken back.") : null,
      needsArgument
        ? h("label", { class: "field" }, h("span", null, words(action.argument)),
            h("input", { type: "text", name: "argument", required: !optional, autocomplete: "off", spellcheck: "false", oninput: (event) => { typed = event.currentTarget.value; } }))
        : null,
      failure ? h("p", { class: "failure", role: "alert" }, failure) : null,
      h(
        "div",
        { class: "dialog-foot" },
        h("button", { type: "button", class: "button", onclick: controls.close }, "Cancel"),
        h("button", { type: "submit", class: action.is_destructive ? "button destructive solid" : "button solid", disabled: isBusy, "data-confirm": action.name }, isBusy ? "Doing …" : words(action.name)),
      ),
    ),
  );
}
