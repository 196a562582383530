// What the page asks its server for.

/** Where the routes are, wherever the page itself was found. */
const ROUTES = new URL("../", import.meta.url);

async function ask(path, options) {
  const response = await fetch(new URL(`api/${path}`, ROUTES), { credentials: "same-origin", ...options });
  const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok) throw new Error(answer.error ?? `the server answered ${response.status}`);
  return answer;
}

export const get = (path) => ask(path);

export const post = (path, body) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

/** Follows the stream of updates; tells when it is cut off. A browser connects again by itself, after a refusal this does. */
export function follow({ onHistory, onState, onConnected }) {
  let source = null;
  let pause = 1000;
  const connect = () => {
    source = new EventSource(new URL("events", ROUTES));
    source.addEventListener("history", (event) => onHistory(JSON.parse(event.data)));
    source.addEventListener("state", (event) => {
      pause = 1000;
      onConnected(true);
      onState(JSON.parse(event.data));
    });
    source.onerror = () => {
      onConnected(false);
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(connect, pause);
        pause = Math.min(pause * 2, 30_000);
      }
    };
  };
  connect();
  return () => source?.close();
}
