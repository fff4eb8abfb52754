// A past scan on the screen: its images and settings as they were kept, or as a replay makes them.

import { fetchDocument, fetchImage } from "./archive.js";
import { scanTime } from "./format.js";
import { REPLAY } from "./model.js";
import { Replay } from "./replay.js";

const SIDE = 2048;
const id = (name) => document.getElementById(name);

export class Past {
  /** `hooks` as of Replay, and opened() for another scan, failed(text) for what cannot be read. */
  constructor(model, hooks) {
    this.model = model;
    this.hooks = hooks;
    this.replay = new Replay(model, hooks);
  }

  /** Under which name the daemon sends images for what is on the screen; null when none. */
  get from() {
    return this.replay.record ? REPLAY : null;
  }

  /** Show a scan of the daemon's list. */
  open(scan) {
    this.model.openPast(scan);
    this.replay.open(scan);
    id("past-bar").hidden = false;
    id("past-name").textContent = scanTime(scan.id);
    id("past-name").title = scan.id;
    this.hooks.opened();
    this.hooks.changed();
    this.fetch(this.model.past);
  }

  fetch(past) {
    const { scan, source } = past;
    const shown = (action) => {
      if (this.model.past === past) action();
    };
    const failed = (error) => this.hooks.failed(error.message);
    fetchDocument(scan.id).then((document_) => {
      past.optics = document_.measured_optics;
      past.notices = document_.notices;
      if (document_.settings) past.settings = recorded(document_.settings);
      if (!past.tunable) source.settings = past.settings;
      shown(this.hooks.changed);
    }, failed);
    for (const { name } of source.images) {
      fetchImage(scan.id, name, SIDE).then((frame) => {
        source.whole.set(name, frame);
        shown(this.hooks.grown);
      }, failed);
    }
  }

  /** The images of the newest scan of a pipeline that is kept, and what was noticed about it. */
  async newest(pipeline) {
    try {
      const reply = await fetch("api/scans?limit=20");
      const { scans } = await reply.json();
      const scan = scans.find((each) => each.pipeline === pipeline && each.images.length);
      const frames = (scan?.images ?? []).map((name) => fetchImage(scan.id, name, SIDE));
      const { notices } = scan ? await fetchDocument(scan.id) : {};
      const read = await Promise.allSettled(frames);
      const kept = read.flatMap(({ value }) => (value ? [{ ...value, meta: { ...value.meta, kept: true } }] : []));
      return { frames: kept, notices };
    } catch (error) {
      this.hooks.failed(`The last scan cannot be shown: ${error.message}`);
      return { frames: [] };
    }
  }

  /** Back to the live images. */
  close() {
    if (!this.model.past) return;
    this.replay.open(null);
    this.model.openPast(null);
    id("past-bar").hidden = true;
    this.hooks.changed();
  }

  // What the daemon sends of a replay from the record

  settings(document_) {
    if (this.replay.record) this.model.past.source.settings = document_;
    this.hooks.changed();
  }

  /** A replay may make other images than were kept: all are shown. */
  images(images) {
    if (!this.replay.record) return;
    const { source } = this.model.past;
    const known = new Set(source.images.map((image) => image.name));
    source.images.push(...images.filter((image) => !known.has(image.name)));
    this.hooks.changed();
  }

  image(frame) {
    if (!this.replay.record) return;
    this.model.past.source.frames.set(frame.meta.name, frame);
    this.hooks.grown();
  }
}

/** The settings of a scan without those that say nothing of its images. */
function recorded({ publish, record, scan, about, ...rest }) {
  return rest;
}
