// The page: what it knows, and when it is drawn.

import { h, patch } from "./dom.js";
import { toast } from "./dialog.js";
import { audit, processes } from "./processes.js";
import { keyspace } from "./keyspace.js";
import { locks } from "./locks.js";
import { attention, traffic, verdict } from "./overview.js";
import { withClasses } from "./objects.js";
import { caches, limits } from "./patterns.js";
import { follow, get } from "./server.js";
import { others } from "./others.js";
import { logs, servers } from "./servers.js";
import { sessions } from "./sessions.js";
import { topics } from "./topics.js";

/** How many points of the charts are kept. */
const MOST_POINTS = 600;

const app = {
  me: null,
  state: null,
  points: [],
  isConnected: false,
  audit: null,
  logs: null,
  analysis: null,
  redraw: () => schedule(),
};

const PANELS = [verdict, attention, traffic, topics, caches, limits, locks, sessions, others, servers, logs, keyspace, processes, audit];
const NAV = [
  ["traffic", "Traffic"], ["topics", "Topics"], ["caches", "Caches"], ["limits", "Limits"], ["locks", "Locks"],
  ["sessions", "Sessions"], ["others", "Others"], ["servers", "Servers"], ["keyspace", "Key space"], ["processes", "Processes"], ["audit", "Audit"],
];

let isScheduled = false;

function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    draw();
  });
}

function draw() {
  drawBar();
  if (!app.state) return;
  const main = document.getElementById("main");
  if (app.state.error) {
    patch(main, [h("p", { class: "loading" }, app.state.error)]);
    return;
  }
  patch(main, PANELS.map((panel) => panel(app)).filter(Boolean));
  const name = app.state.verdict.level === "ok" ? "" : "● ";
  document.title = `${name}${app.me?.namespace || "redkit"} · redkit dashboard`;
}

function drawBar() {
  const shown = new Set([...document.querySelectorAll("main > .panel")].map((panel) => panel.id));
  patch(document.getElementById("nav"), NAV.filter(([id]) => shown.has(id)).map(([id, title]) =>
    h("a", { href: `#${id}`, key: id }, title)));
  const theme = document.documentElement.dataset.theme;
  const isDark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  patch(document.getElementById("session"), [
    h("span", { class: `link ${app.isConnected ? "on" : "off"}`, key: "link" }, app.isConnected ? "live" : "connecting …"),
    app.me ? h("span", { class: "viewer", key: "viewer", title: rightsOf(app.me) }, app.me.name) : null,
    h("button", { type: "button", class: "button theme", key: "theme", "aria-pressed": isDark ? "true" : "false", "aria-label": "Dark colours",
      onclick: () => choose(isDark ? "light" : "dark") }, isDark ? "☾" : "☀"),
  ].filter(Boolean));
}

function rightsOf(me) {
  const { actions } = me.rights;
  if (actions === "all") return "may do everything";
  return actions.length === 0 ? "may read" : `may read, and ${actions.join(", ")}`;
}

function choose(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("redkit-theme", theme);
  } catch {
    // Private windows may have no storage.
  }
  schedule();
}

function restoreTheme() {
  try {
    const theme = localStorage.getItem("redkit-theme");
    if (theme) document.documentElement.dataset.theme = theme;
  } catch {
    // As above.
  }
}

export async function readAudit() {
  try {
    app.audit = await get("audit");
  } catch (error) {
    app.audit = { error: error.message };
  }
  schedule();
}

async function readLogs() {
  try {
    app.logs = await get("logs");
  } catch (error) {
    app.logs = { error: error.message };
  }
  schedule();
}

async function begin() {
  restoreTheme();
  draw();
  try {
    app.me = await get("me");
  } catch (error) {
    toast(error.message, "bad");
  }
  follow({
    onHistory: (points) => {
      app.points = points;
      schedule();
    },
    onState: (state) => {
      if (state.objects) withClasses(state);
      app.state = state;
      if (state.point) {
        app.points.push(state.point);
        if (app.points.length > MOST_POINTS) app.points.splice(0, app.points.length - MOST_POINTS);
      }
      schedule();
    },
    onConnected: (isConnected) => {
      if (app.isConnected === isConnected) return;
      app.isConnected = isConnected;
      schedule();
    },
  });
  readAudit();
  readLogs();
  // Not as often as the rest: people act seldom, and slow commands are few.
  setInterval(() => document.visibilityState === "visible" && readAudit(), 5_000);
  setInterval(() => document.visibilityState === "visible" && readLogs(), 15_000);
  // Ages go on when nothing new comes.
  setInterval(schedule, 5_000);
}

begin();
