// News from the shop: orders that are on their way, announcements. Without this script everything works but that news
// come by themselves.
"use strict";

(() => {
  const account = document.body.dataset.account;
  const news = document.querySelector(".news");
  if (!account || !news || !window.EventSource) return;

  // What this browser has shown last, for each account: a page that is opened later does not show it again.
  const key = `shown:${account}`;
  const seen = new Set();
  const counter = document.querySelector("[data-unread]");
  const remembered = () => { try { return localStorage.getItem(key) || ""; } catch { return ""; } };
  const remember = (id) => { try { localStorage.setItem(key, id); } catch { /* shown again, then */ } };

  const show = (text, link) => {
    const note = document.createElement("p");
    note.className = "toast";
    note.append(text);
    if (link && link.startsWith("/")) {
      const look = document.createElement("a");
      look.href = link;
      look.textContent = "Look at it";
      note.append(" ", look);
    }
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => note.remove());
    note.append(" ", close);
    news.append(note);
    while (news.children.length > 4) news.firstElementChild.remove();
  };

  const stream = new EventSource(`/notifications/stream?after=${encodeURIComponent(remembered())}`);
  let count = 0;
  stream.addEventListener("message", (event) => {
    const note = JSON.parse(event.data);
    remember(event.lastEventId);
    // A notification may be sent twice, by a worker that died in between; it has the same id then.
    if (seen.has(note.id)) return;
    seen.add(note.id);
    show(note.text, note.link);
    count += 1;
    if (counter) {
      counter.textContent = String(count);
      counter.hidden = false;
    }
  });
  stream.addEventListener("gap", () => show("There was more than your inbox keeps.", "/notifications"));
  // The shop ends the stream when the session ends; the browser asks again, and is told that it may not.
  stream.addEventListener("error", () => {
    if (stream.readyState !== EventSource.CLOSED) return;
    show("You were signed out here.", "/sign-in");
    document.body.dataset.signedOut = "";
  });
  addEventListener("pagehide", () => stream.close());
})();
