// Numbers, sizes and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function count(value) {
  if (!isNumber(value)) return "–";
  return Math.abs(value) < 10_000 ? whole.format(value) : compact.format(value);
}

export function exact(value) {
  return isNumber(value) ? whole.format(value) : "–";
}

export function rate(value) {
  if (!isNumber(value)) return "–";
  if (value === 0) return "0/s";
  return value < 10 ? `${value.toFixed(1)}/s` : `${count(value)}/s`;
}

export function share(part, whole) {
  return whole > 0 ? percent(part / whole) : "–";
}

export function percent(value) {
  if (!isNumber(value)) return "–";
  const shown = value * 100;
  return `${shown >= 99.95 || shown === 0 ? Math.round(shown) : shown.toFixed(1)} %`;
}

export function bytes(value) {
  if (!isNumber(value)) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Milliseconds, as latencies are. */
export function latency(value) {
  if (!isNumber(value)) return "–";
  if (value < 1) return `${Math.round(value * 1000)} µs`;
  if (value < 100) return `${value.toFixed(1)} ms`;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

/** Seconds, as ages are. */
export function age(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 1) return seconds <= 0 ? "0 s" : `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

export function clock(millis) {
  return new Date(millis).toLocaleTimeString("en-GB");
}

export function moment(millis) {
  const date = new Date(millis);
  const isToday = date.toDateString() === new Date().toDateString();
  const day = isToday ? "" : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} `;
  return day + date.toLocaleTimeString("en-GB");
}

/** `force_release` as `Force release`. */
export function words(name) {
  const spaced = name.replaceAll("_", " ");
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

/** A fact whose kind only its name tells. */
export function fact(name, value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value;
  if (/(_in|_for|_before|age|idle|remaining|oldest|since|ttl|timeout|window|oldest_pending)$/.test(name)) return age(value);
  if (name === "fence") return String(value);
  if (name === "bytes") return bytes(value);
  if (/rate$/.test(name)) return percent(value);
  return Number.isInteger(value) ? exact(value) : value.toFixed(2);
}
