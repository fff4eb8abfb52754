// The images on the page: a large one, thumbnails of all, or all side by side in lock-step.

import { isEmpty, turn } from "./contrast.js";
import { colourBar } from "./contrastpanel.js";
import { distance, number, title, units } from "./format.js";
import { attach } from "./gestures.js";
import { ImageView } from "./imageview.js";
import { REPLAY } from "./model.js";
import { centreOf } from "./rings.js";
import { beamLine, cursor, profileLine, scaleBar, wheel } from "./overlay.js";
import { Viewport } from "./viewport.js";
import { aboutImage } from "./words.js";

export const SIDES = { main: 2048, grid: 1024, thumb: 128 };

const id = (name) => document.getElementById(name);

export class Stage {
  /**
   * `hooks`: chosen() after another image or layout was chosen, redraw() to be painted soon,
   * grab(event, view) for tools on the large image, rings (an overlay).
   */
  constructor(model, hooks) {
    this.model = model;
    this.hooks = hooks;
    this.scanPort = new Viewport();
    this.patternPort = new Viewport();
    this.gridMode = false;
    this.thumbs = new Map();
    this.cells = new Map();
    this.key = "";
    this.canvas = id("main");
    this.main = new ImageView(this.canvas, this.scanPort, [
      beamLine,
      hooks.rings,
      cursor,
      profileLine,
      wheel,
      scaleBar,
    ]);
    this.main.wanted = hooks.redraw;
    attach(this.main, {
      hover: (event) => this.hover(event),
      grab: (event) => hooks.grab(event, this.main),
    });
  }

  /** The viewport of an image: patterns do not move with scan images. */
  port(frame) {
    return frame?.meta.axes === "detector" ? this.patternPort : this.scanPort;
  }

  /** Show this image large. */
  select(name) {
    this.model.main = name;
    this.main.cursor = null;
    this.readout(null);
    if (this.gridMode) this.setGrid(false);
    this.update();
    this.hooks.chosen();
  }

  /** The image before (-1) or after (1) the one that is shown. */
  step(by) {
    const names = this.model.source.names();
    if (!names.length) return;
    const at = names.indexOf(this.model.main);
    this.select(names[(at + by + names.length) % names.length]);
  }

  setGrid(on) {
    this.gridMode = on;
    id("grid-button").setAttribute("aria-pressed", String(on));
    id("grid").hidden = !on;
    this.canvas.hidden = on;
    id("strip").hidden = on;
    id("bar").hidden = on;
    this.update();
    this.hooks.chosen();
  }

  /** The longest side in pixels at which each image is wanted from the daemon. */
  wants() {
    const images = {};
    const { main } = this.model;
    for (const image of this.model.source.images) {
      const large =
        image.name === main || (main === "field" && /^field_(direction|magnitude)$/.test(image.name));
      images[image.name] = this.gridMode ? SIDES.grid : large ? SIDES.main : SIDES.thumb;
    }
    return images;
  }

  /** Take over the newest frames of the source. */
  update() {
    const { source } = this.model;
    const names = source.names();
    if (!names.includes(this.model.main)) this.model.main = names[0] ?? null;
    const key = `${this.model.past?.scan.id ?? this.model.pipeline}:${names.join()}`;
    if (key !== this.key) {
      this.key = key;
      this.fill(id("strip"), this.thumbs, names, "thumb");
      this.fill(id("grid"), this.cells, names, "cell");
      id("grid").style.setProperty("--columns", Math.ceil(Math.sqrt(names.length)));
    }
    for (const [name, { view, button }] of this.gridMode ? this.cells : this.thumbs) {
      const frame = source.frame(name);
      this.give(view, frame);
      // an image that is made at the end of a scan shows the scan before until then
      button.classList.toggle("old", this.isOld(frame));
      button.setAttribute("aria-pressed", String(name === this.model.main));
    }
    this.give(this.main, source.frame(this.model.main));
    this.describe();
    this.hooks.redraw();
  }

  /** The contrast of an image has changed: every view of it is coloured again. */
  restyle(name) {
    const views = [this.main, this.thumbs.get(name)?.view, this.cells.get(name)?.view];
    for (const view of views) {
      if (view?.frame?.meta.name === name) view.stale = view.dirty = true;
    }
    this.hooks.redraw();
  }

  give(view, frame) {
    if (frame && view.follows) view.look(this.port(frame));
    if (view.frame === frame && frame) return;
    view.set(frame, frame ? this.model.show(frame.meta) : null);
  }

  fill(root, views, names, kind) {
    for (const { view } of views.values()) view.release();
    views.clear();
    const nodes = names.map((name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = kind;
      const canvas = document.createElement("canvas");
      canvas.setAttribute("aria-hidden", "true");
      const caption = document.createElement("span");
      caption.textContent = title(name);
      button.title = aboutImage(name, this.model.rings);
      button.append(canvas, caption);
      const large = kind === "cell";
      const view = new ImageView(canvas, large ? this.scanPort : new Viewport(), large ? [wheel, scaleBar] : []);
      view.wanted = this.hooks.redraw;
      view.follows = large;
      if (large) this.cellGestures(view, button, name);
      else button.addEventListener("click", () => this.select(name));
      views.set(name, { view, button });
      return button;
    });
    root.replaceChildren(...nodes);
  }

  /** In the grid a drag moves all images; a press without a drag, or Enter, opens one. */
  cellGestures(view, button, name) {
    attach(view);
    let start = null;
    button.addEventListener("pointerdown", (event) => (start = [event.clientX, event.clientY]));
    button.addEventListener("click", (event) => {
      const still = start && Math.hypot(event.clientX - start[0], event.clientY - start[1]) < 5;
      if (event.detail === 0 || still) this.select(name);
    });
  }

  /** Paint what has changed; called once a frame of the screen. */
  paint() {
    const shown = this.gridMode ? this.cells : this.thumbs;
    for (const { view } of shown.values()) view.paint();
    if (this.gridMode) return;
    this.main.look(this.port(this.main.frame));
    const changed = this.main.dirty;
    this.main.paint();
    if (changed) colourBar(id("bar"), this.main);
  }

  /** Words for the image: heading, badge, what a screen reader hears. */
  describe() {
    const { frame } = this.main;
    id("empty").hidden = (frame && !isEmpty(frame)) || this.gridMode;
    const heading = this.gridMode ? "All images" : this.model.main ? title(this.model.main) : "No image yet";
    id("image-title").textContent = heading;
    const about = this.gridMode ? "" : aboutImage(this.model.main ?? "", this.model.rings);
    if (id("image-about").textContent !== about) id("image-about").textContent = about;
    const note = id("image-note");
    const before = frame?.meta.kept ? "of the last scan, from the disk" : "from the scan before";
    const old = !this.isOld(frame) ? "" : this.model.past ? "as it was kept" : before;
    note.textContent = [old, mixedWords(frame?.meta)].filter(Boolean).join("; ");
    note.hidden = !note.textContent;
    if (!frame) return;
    const [h, w] = frame.meta.full_shape;
    this.canvas.setAttribute("aria-label", `${heading}, ${h} by ${w} pixels`);
  }

  isOld(frame) {
    const { past } = this.model;
    if (past) return Boolean(past.tunable && frame && frame.meta.pipeline !== REPLAY);
    const running = this.model.live.state.scan;
    return Boolean(frame && (frame.meta.kept || (running && frame.meta.scan !== running)));
  }

  hover(event) {
    const at = event && this.main.pixel(this.main.toImage(event));
    this.readout(at);
  }

  /** Put the read-out on a pixel {x, y, index}, or nowhere. */
  readout(at) {
    const { frame } = this.main;
    if ((this.main.cursor?.index ?? -1) !== (at?.index ?? -1)) {
      this.main.cursor = at;
      this.main.dirty = true;
      this.hooks.redraw();
    }
    this.reads = at;
    this.refreshReadout(frame);
  }

  /** The value under the cursor changes while the image grows. */
  refreshReadout(frame = this.main.frame) {
    const at = this.reads;
    const output = id("readout");
    if (!at || !frame || at.index >= frame.data.length) {
      output.textContent = "";
      return;
    }
    const { meta } = frame;
    const step = meta.step ?? 1;
    const value = `${number(frame.data[at.index])} ${units(meta.units)}`.trim();
    const angle = frame.angle ? ` at ${degrees(frame.angle[at.index], frame.angleMeta)}` : "";
    const place = meta.axes === "detector" ? this.scattered(at, frame) : scanned(at, meta);
    output.textContent = `${value}${angle}   y ${at.y * step}, x ${at.x * step}${place}`;
  }

  /** How far from the centre of the pattern: the angle by which electrons were scattered. */
  scattered(at, frame) {
    const { source, settings } = this.model;
    const centre = centreOf(frame, settings, source.centre());
    const pixels = Math.hypot(at.x + 0.5 - centre.x, at.y + 0.5 - centre.y);
    const { meta } = frame;
    const far = meta.pixel_size ? distance(pixels, meta) : `${number(pixels * (meta.step || 1), 3)} px`;
    return `   ${far} from the centre`;
  }

  /** Move the read-out by whole pixels, for the keyboard. */
  moveCursor(dx, dy) {
    const { frame } = this.main;
    if (!frame) return;
    const from = this.reads ?? { x: frame.w >> 1, y: frame.h >> 1 };
    const at = this.main.pixel({ x: from.x + dx, y: from.y + dy });
    if (at) this.readout(at);
    id("spoken").textContent = id("readout").textContent;
  }
}

/** An image that is made of two rings is not what its ring of now says. */
function mixedWords(meta) {
  const first = meta?.extra?.mixed?.[0];
  if (!first) return "";
  const what = first.inner_px === null ? "0 before" : "another ring or centre before";
  return `changed in mid-scan: ${what} ${number(first.positions)} of ${number(meta.positions_total)} positions`;
}

/** How far from the first position, in nm. */
function scanned(at, meta) {
  return meta.pixel_size ? `  ${distance(at.y, meta)}, ${distance(at.x, meta)}` : "";
}

/** A direction in whole degrees. */
function degrees(value, meta) {
  return `${number(Math.round((value * 360) / turn(meta)), 3)}°`;
}
