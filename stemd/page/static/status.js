// The state of the scan and the daemon in plain words, health numbers, and the log's tail.

import { bytes, count, duration, scanTime, short } from "./format.js";
import { camera } from "./health.js";

const WORDS = {
  stopped: "Stopped",
  waiting: "Waiting for the camera",
  acquiring: "Scanning",
  finishing: "Finishing the images",
  fault: "Fault",
};
const MAX_LOG = 100;
/** Kinds of errors that matter while a scan runs. */
const LASTING = new Set(["disk", "engine", "stalled"]);
const GONE = {
  message: "No connection to stemd.",
  remedy: "You see the last images that arrived. A running scan continues without this page. The page connects again by itself.",
};

/** The state document in a few words. */
export function words(state) {
  if (state?.state === "waiting" && state.completing) return completing(state);
  if (state?.state === "waiting" && state.camera_connected === false) return "Camera not connected";
  if (state?.state === "waiting" && state.camera_connected) return "Ready for a scan";
  return WORDS[state?.state] ?? "Waiting for the daemon";
}

/** That images of an earlier scan are made again from its record meanwhile. */
function completing(state) {
  const part = Math.floor(100 * (state.completing_part ?? 0));
  return `Completing images, ${part} %`;
}

/** What an empty image waits for, and what is to be done about it. */
export function waitingWords({ state, camera_connected: camera, positions_done: done }) {
  const grows = "The image grows here as soon as the first patterns arrive.";
  if (state === "acquiring" || state === "finishing") {
    return done ? ["The first image is being made", ""] : ["Waiting for the first scan line", grows];
  }
  if (state !== "waiting" || camera === undefined) return ["Waiting for the camera", grows];
  if (camera) return ["The camera is connected, and no scan runs", grows];
  return [
    "The camera is not connected",
    "stemd tries again by itself. Does the camera's software run, and are host and port in the config its own?",
  ];
}

/** Seconds until the scan is done at the present speed, NaN when not known. */
export function remaining(state) {
  const left = state.positions_total - state.positions_done;
  return state.positions_per_second > 0 && left > 0 ? left / state.positions_per_second : NaN;
}

const id = (name) => document.getElementById(name);

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Everything about the scan that is text. */
export class Status {
  constructor() {
    this.said = "";
  }

  update(model, link) {
    const { state } = model.live;
    const done = state.positions_done ?? 0;
    const total = state.positions_total ?? 0;
    const part = total ? done / total : 0;
    const kind = link.open ? (state.state ?? "unknown") : "offline";
    const text = link.open ? words(state) : link.ever ? "Connection lost, trying again" : "Connecting";
    document.body.dataset.state = kind;
    put(id("state-words"), text);
    const percent = `${Math.floor(part * 100)} %`;
    const moving = kind === "acquiring";
    put(id("state-number"), moving && total ? percent : "");
    id("progress").style.setProperty("--part", part.toFixed(4));
    const bar = id("progress");
    bar.setAttribute("aria-valuenow", Math.floor(part * 100));
    bar.setAttribute("aria-valuetext", `${count(done)} of ${count(total)} positions`);
    const past = model.past?.scan;
    numbers(past ? asState(past) : state);
    put(id("scan-card"), past ? "This past scan" : "Scan");
    put(id("scan-left-name"), past ? "Took" : "Left");
    put(id("scan-left"), past ? duration(past.seconds ?? NaN) : moving ? duration(remaining(state)) : "–");
    for (const name of ["start", "stop"]) {
      const button = id("commands").querySelector(`[data-command=${name}]`);
      button.hidden = !(state.camera_commands ?? []).includes(name);
    }
    camera(past ? [] : state.camera_status);
    id("commands").hidden = id("command-reply").hidden = Boolean(past);
    this.fault(state, link);
    const place = model.hello.instrument ?? "stemd";
    document.title = `${moving && total ? `${percent} · ` : ""}${text} · ${place}`;
    this.say(state.state === "fault" ? `${text}: ${state.last_error?.message ?? ""}` : text);
  }

  /** The newest error with its remedy, large when the pipeline has stopped for it, then the others. */
  fault(state, link) {
    const gone = link.ever && !link.open;
    // a camera that sends is well, whatever was wrong with it; a full disk is not
    const matters = (error) => state.state !== "acquiring" || LASTING.has(error.kind);
    const [error, ...others] = gone ? [GONE] : (state.errors ?? []).filter(matters);
    const box = id("fault");
    const text = error?.message ?? "";
    const also = others.length ? `. Also: ${others.map((other) => other.message).join("; ")}.` : "";
    box.hidden = !text || !link.ever;
    box.classList.toggle("serious", !gone && state.state === "fault");
    put(id("fault-message"), text);
    put(id("fault-remedy"), `${error?.remedy ?? ""}${also}`);
  }

  /** Spoken by a screen reader, once per change. */
  say(text) {
    if (text === this.said) return;
    this.said = text;
    put(id("spoken"), text);
  }
}

/** A past scan as listed, with the keys of a state document. */
function asState(past) {
  const { positions_done, positions_total, missing, files } = past;
  const record = files.find((file) => file.name === past.record);
  const speed = past.seconds ? positions_done / past.seconds : 0;
  return { positions_done, positions_total, missing, scan: past.id, bytes: record?.bytes, positions_per_second: speed };
}

/** Counts, speed and name of a scan. */
function numbers(state) {
  const { positions_done: done = 0, positions_total: total = 0, scan } = state;
  put(id("scan-done"), total ? `${count(done)} of ${count(total)}` : "–");
  put(id("scan-rate"), state.positions_per_second ? `${short(state.positions_per_second)}/s` : "–");
  put(id("scan-missing"), state.missing === undefined ? "–" : count(state.missing));
  id("scan-missing").classList.toggle("warn", state.missing > 0);
  put(id("scan-bytes"), bytes(state.bytes));
  put(id("scan-id"), scan || "–");
  id("scan-id").title = scan ? scanTime(scan) : "";
}

/** How far the daemon's clock is ahead of this computer's, in ms: neither need be right. */
let ahead = 0;

/** The daemon has said just now what time it is there. */
export function daemonTime(time) {
  ahead = Date.parse(time) - Date.now() || 0;
}

/** One line more in the log, the newest on top by its own time: what a scan's end says may come
 * later than what was noticed after it. What the page itself says has the daemon's time, too. */
export function logLine(root, pipeline, entry, level) {
  const item = document.createElement("li");
  item.dataset.level = level;
  const time = document.createElement("time");
  const moment = new Date(entry.time ?? Date.now() + ahead);
  time.dateTime = moment.toISOString();
  time.textContent = moment.toLocaleTimeString();
  const text = document.createElement("span");
  text.textContent = entry.text ?? entry.message ?? entry.event ?? JSON.stringify(entry);
  item.append(time, text);
  if (entry.remedy) {
    const remedy = document.createElement("em");
    remedy.textContent = entry.remedy;
    item.append(remedy);
  }
  item.title = pipeline;
  item.dataset.at = moment.getTime();
  const older = [...root.children].find((line) => Number(line.dataset.at) <= moment.getTime());
  root.insertBefore(item, older ?? null);
  while (root.children.length > MAX_LOG) root.lastElementChild.remove();
}

/** A scan document ("started", "finished", "aborted", "completion") as a line of the log. */
export function documentLine(document_) {
  if (document_.event === "completion") {
    const { status, time } = document_.completion;
    const what = status === "done" ? "completed from the record" : "stay incomplete";
    return { time, text: `Images ${what}: ${document_.id}` };
  }
  const missing = document_.missing > 0 ? `, ${count(document_.missing)} missing` : "";
  const time = document_.finished ?? document_.started;
  return { time, text: `Scan ${document_.event}${missing}: ${document_.id}` };
}
