// A past scan that grows again: from its record by the daemon, or from its finished images here.

import { duration } from "./format.js";

const TICK_MS = 66;
const SHARE = 0.4; // at most this part of the browser's time goes into growing images
const WORDS = {
  preparing: "Opening the record …",
  playing: "From the record",
  paused: "Paused",
  computing: "Making the images again …",
  finished: "From the record: settings can be tried",
};
const FROM_IMAGES = "From the finished images";

const id = (name) => document.getElementById(name);

/** A frame of a scan image as it was after `done` positions; patterns stay as they are. */
export function grown(frame, done, total) {
  const { meta } = frame;
  if (meta.axes === "detector" || !meta.scan_shape || done >= total) return frame;
  const part = { positions_done: done, positions_total: total, reached: done, final: false };
  return { ...frame, meta: { ...meta, ...part } };
}

/**
 * Grows the finished images line by line. It costs the daemon nothing, so anybody may.
 * `show(frames, done)` puts a Map of frames on the screen.
 */
class FromImages {
  constructor(frames, total, show) {
    this.frames = frames;
    this.total = total;
    this.show = show;
    this.done = 0;
    this.timer = 0;
    this.playing = false;
  }

  play(seconds) {
    this.pause();
    if (this.done >= this.total) this.done = 0;
    this.playing = true;
    let then = performance.now();
    const step = () => {
      const now = performance.now();
      this.done = Math.min(this.total, this.done + ((now - then) / 1000 / seconds) * this.total);
      then = now;
      this.playing = this.done < this.total;
      this.put();
      const cost = performance.now() - now;
      if (this.playing) this.timer = setTimeout(step, Math.max(TICK_MS, cost / SHARE));
    };
    step();
  }

  put() {
    const done = Math.floor(this.done);
    const now = [...this.frames].map(([name, frame]) => [name, grown(frame, done, this.total)]);
    this.show(new Map(now), done);
  }

  pause() {
    clearTimeout(this.timer);
    this.playing = false;
  }
}

/**
 * The bar above a past scan. `hooks`: send(message) to the daemon, allowed() to have it work,
 * grown() after the images, changed() after what may be tuned has changed.
 */
export class Replay {
  constructor(model, hooks) {
    this.model = model;
    this.hooks = hooks;
    this.button = id("replay-button");
    this.seconds = id("replay-seconds");
    this.words = id("replay-words");
    this.bar = id("replay-bar");
    this.button.addEventListener("click", () => this.toggle());
    this.seconds.addEventListener("change", () => this.pace());
    this.reset();
  }

  reset() {
    this.images?.pause();
    this.images = null;
    this.record = null; // the daemon's newest word on a replay from the record
    this.note = "";
  }

  /** Another past scan has been opened, or none. */
  open(scan) {
    if (this.record) this.hooks.send({ type: "replay", action: "stop" });
    this.reset();
    const real = this.seconds.querySelector("[data-real]");
    real.hidden = real.disabled = !(scan?.seconds >= 1);
    if (scan?.seconds >= 1) {
      real.value = String(Math.min(86400, scan.seconds));
      real.textContent = `as scanned: ${duration(scan.seconds)}`;
    } else if (real.selected) this.seconds.value = "20";
    this.tell();
  }

  /** Play, pause, go on, or play again. */
  toggle() {
    const { past } = this.model;
    if (!past) return;
    if (this.record) {
      const over = ["finished", "computing"].includes(this.record.state);
      const paused = this.record.state === "playing";
      if (this.record.state !== "preparing") this.pace({ paused, again: over });
    } else if (this.images) {
      if (this.images.playing) this.images.pause();
      else this.images.play(this.chosen);
    } else if (past.scan.record && this.hooks.allowed()) {
      this.record = { state: "preparing" };
      past.source.frames = new Map(past.source.whole);
      this.hooks.send({ type: "replay", action: "start", scan: past.scan.id, seconds: this.chosen });
    } else this.playImages();
    this.tell();
  }

  get chosen() {
    return Number(this.seconds.value);
  }

  pace({ paused = this.record?.state === "paused", again = false } = {}) {
    if (this.record) {
      const seconds = this.chosen;
      this.hooks.send({ type: "replay", action: "pace", seconds, paused, again });
    } else if (this.images?.playing) this.images.play(this.chosen);
  }

  playImages() {
    const { scan, source } = this.model.past;
    const shape = scan.shape ?? [1, 1];
    this.images = new FromImages(source.whole, shape[0] * shape[1], (frames) => {
      source.frames = frames;
      this.hooks.grown();
      this.tell();
    });
    this.images.play(this.chosen);
  }

  /** What the daemon says of the replay that it makes. */
  hear(news) {
    const { past } = this.model;
    if (!past || news.scan !== past.scan.id) return;
    if (["refused", "failed", "ended"].includes(news.state)) {
      const before = this.record;
      this.end();
      this.note = [news.message, news.remedy].filter(Boolean).join("; ");
      // whoever wanted to see the scan grow does, all the same
      if (before && news.state === "refused") this.playImages();
    } else {
      const before = this.record?.state;
      this.record = news;
      past.tunable = news.state !== "preparing";
      this.note = news.message ? [news.message, news.remedy].filter(Boolean).join("; ") : "";
      if (before === news.state) {
        this.tell();
        return;
      }
    }
    this.hooks.changed();
    this.tell();
  }

  /** The connection has gone, and the replay with it; finished images go on. */
  lost() {
    if (!this.record) return;
    this.end();
    this.note = "The connection was lost: press Replay to begin again";
    this.hooks.changed();
    this.tell();
  }

  /** The replay from the record is over: the images are again those that were kept. */
  end() {
    const { past } = this.model;
    this.record = null;
    if (!past) return;
    past.tunable = false;
    past.source.frames = past.source.whole;
    past.source.settings = past.settings ?? null;
  }

  /** Button, words and bar as they are now. */
  tell() {
    const { past } = this.model;
    if (!past) return;
    const { record, images } = this;
    const state = record?.state ?? (images ? (images.playing ? "playing" : images.done < images.total ? "paused" : "over") : "");
    const label = { playing: "Pause", paused: "Go on", finished: "Replay again", computing: "Replay again", over: "Replay again" };
    put(this.button, label[state] ?? "Replay");
    this.button.disabled = state === "preparing";
    const done = record ? (record.positions_done ?? 0) : (images?.done ?? 0);
    const total = record ? (record.positions_total ?? 0) : (images?.total ?? 0);
    const part = total ? done / total : 0;
    this.bar.hidden = !record && !images;
    this.bar.style.setProperty("--part", part.toFixed(4));
    this.bar.setAttribute("aria-valuenow", Math.floor(part * 100));
    let words = record ? (WORDS[state] ?? "") : images ? (state === "paused" ? "Paused" : FROM_IMAGES) : "";
    if (record?.late && state === "playing") words = "From the record, slower: the machine is busy";
    if (!record && !images && !this.note) {
      words = past.scan.record
        ? this.hooks.allowed()
          ? "Its record has been kept: settings can be tried"
          : "From its images; with the operator's token from its record"
        : "No record has been kept: it grows from its images";
    }
    put(this.words, [this.note, words].filter(Boolean).join(" · "));
  }
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
