// The health of the daemon: what matters in plain words, and all numbers below.

import { bytes, count, duration, keyTitle, number, short } from "./format.js";

const HIDDEN = new Set(["time", "time_ns", "boot_id"]);

/** What an operator wants to know, as [words, text, whether something is wrong]. */
function facts(health) {
  const rows = (health.red ?? []).map((red) => ["Red", fault(red), true]);
  const pipelines = Object.entries(health.pipelines ?? {});
  for (const [name, part] of pipelines) {
    const of = pipelines.length > 1 ? `${name}: ` : "";
    const lost = part.camera_connected === false;
    rows.push([`${of}Camera`, lost ? "not connected" : "connected", lost]);
    rows.push([`${of}Last pattern`, ago(part.last_frame_age_s)]);
    if (part.pool_blocks) {
      const few = part.pool_free < part.pool_blocks / 8;
      rows.push([`${of}Buffers free`, `${count(part.pool_free)} of ${count(part.pool_blocks)}`, few]);
    }
    const waits = part.record_waits ?? 0;
    rows.push([`${of}Camera waited for the disk`, waits ? `${count(waits)} times` : "never", waits > 0]);
    const cut = part.scans_not_complete ?? 0;
    rows.push([`${of}Scans`, `${count(part.scans_finished ?? 0)}${cut ? `, ${count(cut)} not complete` : ""}`]);
  }
  const { disk, broker } = health;
  if (disk?.free_bytes) {
    rows.push(["Free disk space", `${bytes(disk.free_bytes)} of ${bytes(disk.total_bytes)}`, Boolean(disk.low || disk.error)]);
  }
  if (disk?.error) rows.push(["Disk", fault(disk.error), true]);
  if (broker?.url) {
    const away = broker.connected === false;
    rows.push(["Broker", away ? `not reached${broker.error ? `: ${fault(broker.error)}` : ""}` : "connected", away]);
  }
  if (health.viewers !== undefined) rows.push(["Viewers of this page", count(health.viewers)]);
  rows.push(["Memory", bytes(health.memory_bytes)]);
  if (health.uptime_s !== undefined) rows.push(["Running for", duration(health.uptime_s)]);
  return rows;
}

/** What is wrong, and what to do. */
const fault = (error) => [error.message ?? String(error), error.remedy].filter(Boolean).join("; ");

const ago = (seconds) => (Number.isFinite(seconds) ? (seconds < 1 ? "just now" : `${duration(seconds)} ago`) : "none yet");

/** Every number of the document, under its own name. */
function numbers(document_) {
  const rows = [];
  const walk = (value, path) => {
    if (value !== null && typeof value === "object") {
      for (const [key, inner] of Object.entries(value)) walk(inner, key === "pipelines" ? path : [...path, key]);
    } else if (!HIDDEN.has(path.at(-1))) {
      const key = path.at(-1);
      const name = keyTitle(key.replace(/_(bytes|s|percent)$/, ""));
      rows.push([[...path.slice(0, -1).map((part) => part.replaceAll("_", " ")), name].join(" · "), reading(key, value)]);
    }
  };
  walk(document_, []);
  return rows;
}

function reading(key, value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value ?? "–");
  if (/bytes$/.test(key)) return bytes(value);
  if (/percent$/.test(key)) return `${number(value, 3)} %`;
  if (/_ms$/.test(key)) return `${number(value, 3)} ms`;
  if (/per_second|rate/.test(key)) return `${short(value)}/s`;
  if (/_s$|_seconds$/.test(key)) return duration(value);
  return Number.isInteger(value) ? count(value) : number(value, 4);
}

function fill(list, rows) {
  list.replaceChildren(
    ...rows.flatMap(([words, text, wrong]) => {
      const [term, value] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = words;
      value.textContent = text;
      if (wrong) value.className = "warn";
      return [term, value];
    }),
  );
}

/** What the camera says of itself; the card is there only where one says something. */
export function camera(readings) {
  document.getElementById("camera-card").hidden = !readings?.length;
  fill(document.getElementById("camera"), (readings ?? []).map(sensor));
}

const sensor = ({ name, value, unit, critical }) => [
  keyTitle(name.replaceAll("/", " ").replaceAll("_", " ")),
  [typeof value === "number" ? number(value, 4) : String(value), unit === "C" ? "°C" : unit].filter(Boolean).join(" "),
  critical,
];

/** Show a health document. */
export function health(document_) {
  fill(document.getElementById("health"), facts(document_));
  fill(document.getElementById("health-all"), numbers(document_));
}
