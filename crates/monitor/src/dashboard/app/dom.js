// Elements as plain values, and the least work that makes a part of the page look like them. What is focused, scrolled
// or typed stays, because elements are changed and not replaced.

const OF_SVG = new Set(["svg", "g", "path", "line", "rect", "circle", "text"]);

/** An element. A `key` in the properties tells it apart from its siblings; with `own` its children are its own affair. */
export function h(tag, properties, ...children) {
  const shown = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  return { tag, properties: properties ?? {}, children: shown };
}

/** Makes the children of `parent` look like `nodes`. */
export function patch(parent, nodes) {
  const keyed = new Map();
  for (const child of parent.childNodes) {
    if (child.redkitKey !== undefined) keyed.set(child.redkitKey, child);
  }
  let at = parent.firstChild;
  for (const node of nodes) {
    const key = typeof node === "object" ? node.properties.key : undefined;
    let child = key === undefined ? at : keyed.get(key);
    if (key === undefined && child && child.redkitKey !== undefined) child = null;
    if (!child || !isLike(child, node)) {
      child = make(node);
      parent.insertBefore(child, at);
    } else if (child !== at) {
      parent.insertBefore(child, at);
    }
    keyed.delete(key);
    update(child, node);
    at = child.nextSibling;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** One element on its own. */
export function element(node) {
  const made = make(node);
  update(made, node);
  return made;
}

function isLike(child, node) {
  if (typeof node !== "object") return child.nodeType === Node.TEXT_NODE;
  return child.nodeType === Node.ELEMENT_NODE && child.localName === node.tag && child.redkitKey === node.properties.key;
}

function make(node) {
  if (typeof node !== "object") return document.createTextNode(String(node));
  const made = OF_SVG.has(node.tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", node.tag)
    : document.createElement(node.tag);
  made.redkitKey = node.properties.key;
  made.redkitProperties = {};
  return made;
}

function update(child, node) {
  if (typeof node !== "object") {
    if (child.data !== String(node)) child.data = String(node);
    return;
  }
  const before = child.redkitProperties ?? {};
  for (const name of Object.keys(before)) {
    if (!(name in node.properties)) set(child, name, null);
  }
  for (const [name, value] of Object.entries(node.properties)) {
    if (before[name] !== value) set(child, name, value);
  }
  child.redkitProperties = node.properties;
  if (!node.properties.own) patch(child, node.children);
}

function set(child, name, value) {
  if (name === "key" || name === "own") return;
  if (name.startsWith("on")) {
    child[name] = value;
  } else if (name === "value" && "value" in child && child.localName !== "button") {
    if (child.value !== String(value ?? "")) child.value = value ?? "";
  } else if (value === null || value === undefined || value === false) {
    child.removeAttribute(name);
  } else {
    child.setAttribute(name, value === true ? "" : String(value));
  }
}
