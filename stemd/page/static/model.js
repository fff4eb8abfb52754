// What the page knows: pipelines with their newest documents and images, and how images are shown.

import { defaultMap } from "./colormap.js";
import { defaults } from "./contrast.js";

const FIRST = ["ricom", "icom", "airpi_phase", "direct_phase", "ssb_phase"];
const LAST = [
  "field",
  "com_y",
  "com_x",
  "sum",
  "pattern",
  "pacbed",
  "field_magnitude",
  "field_direction",
  "airpi_weight",
  "airpi_uncertainty",
];
const STORE = "stemd.shows";

/** The daemon's name for this viewer's replay, where else the name of a pipeline stands. */
export const REPLAY = "@replay";

function place(name) {
  const first = FIRST.indexOf(name);
  if (first >= 0) return first - 100;
  return LAST.indexOf(name) + 1;
}

class Source {
  constructor() {
    this.state = {};
    this.settings = null;
    this.optics = null;
    this.keptNotices = []; // of a scan of before the daemon's start that is shown
    this.session = null;
    this.images = [];
    this.frames = new Map();
    this.made = new Map();
  }

  /** Take over a settings document, and keep what decides how images look, by its revision. */
  take(settings) {
    this.settings = settings;
    const { revision, changed, about, publish, record, scan, ...of } = settings;
    this.made.set(revision, JSON.stringify(of));
    if (this.made.size > 100) this.made.delete(this.made.keys().next().value);
  }

  /** Whether a finished image was made with other settings than those in force. */
  isStale(frame) {
    const then = this.made.get(frame?.meta.settings_revision);
    const resting = ["waiting", "stopped", "fault"].includes(this.state.state);
    return resting && then !== undefined && then !== this.made.get(this.settings?.revision);
  }

  /** Names of the images there are, the most telling first, with the combined field image. */
  names() {
    const names = this.images.map((image) => image.name);
    if (names.includes("field_direction") && names.includes("field_magnitude")) names.push("field");
    return names.sort((a, b) => place(a) - place(b));
  }

  /** The centre that the engines use, [y, x] in detector pixels, where an image tells it. */
  centre() {
    for (const { meta } of this.frames.values()) if (meta.extra?.center) return meta.extra.center;
    return null;
  }

  /** The newest frame of a name, or null. The field is made of magnitude and direction. */
  frame(name) {
    if (name !== "field") return this.frames.get(name) ?? null;
    const size = this.frames.get("field_magnitude");
    const angle = this.frames.get("field_direction");
    if (!size || !angle || size.w !== angle.w || size.h !== angle.h) return null;
    // the two come one after the other: until the second of a new scan is here the old pair stays
    if (size.meta.scan !== angle.meta.scan) return this.field?.frame ?? null;
    if (this.field?.of !== size || this.field?.and !== angle) {
      const older = size.meta.sequence <= angle.meta.sequence ? size.meta : angle.meta;
      const { positions_done, reached, final } = older;
      const meta = { ...size.meta, name: "field", positions_done, reached, final };
      const frame = { meta, w: size.w, h: size.h, data: size.data };
      this.field = { of: size, and: angle, frame: { ...frame, angle: angle.data, angleMeta: angle.meta } };
    }
    return this.field.frame;
  }
}

export class Model {
  constructor() {
    this.hello = {};
    this.daemon = {};
    this.health = {};
    this.pipelines = new Map();
    this.pipeline = null;
    this.past = null; // {scan, source, tunable} while a past scan is open
    this.main = null;
    this.shows = restore();
  }

  /** The pipeline of a name, made on first use. */
  of(name) {
    if (!this.pipelines.has(name)) this.pipelines.set(name, new Source());
    this.pipeline ??= name;
    return this.pipelines.get(name);
  }

  /** These are the pipelines there are: true if others are gone, the one looked at maybe. */
  keep(names) {
    const gone = [...this.pipelines.keys()].filter((name) => !names.includes(name));
    for (const name of gone) this.pipelines.delete(name);
    if (gone.includes(this.pipeline)) this.pipeline = [...this.pipelines.keys()].sort()[0] ?? null;
    return gone.length > 0;
  }

  /** The pipeline that is looked at. */
  get live() {
    return this.pipelines.get(this.pipeline) ?? new Source();
  }

  /** Where the images on the screen come from: a pipeline, or a past scan. */
  get source() {
    return this.past?.source ?? this.live;
  }

  /** Settings in force for what is on the screen, null while they are not known. */
  get settings() {
    return this.source.settings;
  }

  /** The virtual detectors whose edges are in mrad: {name: [inner, outer]}. */
  get rings() {
    const engines = Object.values(this.settings ?? {}).filter((part) => part?.detectors);
    return Object.assign({}, ...engines.map((part) => part.detectors));
  }

  /** Where a settings change goes, null where it means nothing: a past scan's are history. */
  get target() {
    if (!this.past) return this.pipeline;
    return this.past.tunable ? REPLAY : null;
  }

  /** Look at a past scan as listed by the daemon; null goes back to the live images. */
  openPast(scan) {
    this.past = scan && { scan, source: new Source(), settings: null, tunable: false };
    if (!scan) return;
    const { source } = this.past;
    source.images = scan.images.map((name) => ({ name }));
    // the images as they were kept; `frames` are others while the scan is replayed
    source.whole = source.frames;
  }

  /** How an image of this meta is shown: colour map, contrast, log. Kept between visits. */
  show(meta) {
    let show = this.shows.get(meta.name);
    if (!show) {
      show = defaults(meta, defaultMap(meta));
      this.shows.set(meta.name, show);
    }
    return show;
  }

  /** Change how an image is shown. */
  change(meta, part) {
    Object.assign(this.show(meta), part);
    try {
      localStorage.setItem(STORE, JSON.stringify([...this.shows]));
    } catch {
      // a browser that keeps nothing still shows everything
    }
  }
}

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE) ?? "[]");
    return new Map(kept.filter(([, show]) => typeof show.map === "string"));
  } catch {
    return new Map();
  }
}
