// The panel beside the image: colour map, contrast by percentile or by hand, histogram; and the
// colour bar with its numbers.

import { MAPS, css, kindOf, lut } from "./colormap.js";
import { sample } from "./contrast.js";
import { number, ticks, title, units } from "./format.js";

const BINS = 96;
const FONT = '11px "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif';

/** A value's place between the limits, 0..1, on the scale that the image uses. */
function place(value, { lo, hi }, log) {
  return log ? Math.log(value / lo) / Math.log(hi / lo) : (value - lo) / (hi - lo);
}

function sized(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [W, H] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(W * ratio)) canvas.width = Math.round(W * ratio);
  if (canvas.height !== Math.round(H * ratio)) canvas.height = Math.round(H * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, W, H);
  return { context, W, H };
}

/** Draw a colour map along a canvas, left to right, or upwards when it is tall. */
function strip(context, x, y, w, h, map, invert, upwards) {
  const colours = lut(map);
  const n = upwards ? h : w;
  for (let i = 0; i < n; i += 1) {
    const k = Math.min(255, Math.floor((256 * (i + 0.5)) / n));
    context.fillStyle = css(colours[invert ? 255 - k : k]);
    if (upwards) context.fillRect(x, y + h - 1 - i, w, 1.5);
    else context.fillRect(x + i, y, 1.5, h);
  }
}

/** The colour bar of a view: colours, numbers, units. */
export function colourBar(canvas, view) {
  const { context, W, H } = sized(canvas);
  const { frame, show, limits } = view;
  if (!frame || frame.angle) return;
  const box = { x: 2, y: 26, w: 14, h: H - 38 };
  strip(context, box.x, box.y, box.w, box.h, show.map, show.invert, true);
  context.strokeStyle = "rgb(255 255 255 / 0.14)";
  context.strokeRect(box.x - 0.5, box.y - 0.5, box.w + 1, box.h + 1);
  context.font = FONT;
  context.fillStyle = "#93a1b5";
  if (frame.meta.units) context.fillText(units(frame.meta.units), box.x, 14, W);
  context.fillStyle = "#c9d3df";
  for (const value of barTicks(limits, show.log, box.h)) {
    const y = box.y + box.h * (1 - place(value, limits, show.log));
    context.fillRect(box.x + box.w + 1, y - 0.5, 4, 1);
    context.fillText(number(value, 3), box.x + box.w + 8, y + 4);
  }
}

function barTicks({ lo, hi }, log, height) {
  const wanted = Math.max(2, Math.round(height / 60));
  if (!log || hi / lo < 8) return ticks(lo, hi, wanted).filter((value) => !log || value > 0);
  const found = [];
  const first = Math.ceil(Math.log10(lo) - 1e-9);
  const last = Math.floor(Math.log10(hi) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / wanted));
  for (let power = first; power <= last; power += every) found.push(10 ** power);
  return found.length > 1 ? found : [lo, ...found, hi];
}

export class ContrastPanel {
  /** `changed(part)` is called with what the user has changed of how the image is shown. */
  constructor(root, changed) {
    this.changed = changed;
    const at = (name) => root.querySelector(`[data-part="${name}"]`);
    this.whose = at("whose");
    this.maps = at("maps");
    this.histogram = at("histogram");
    this.mode = at("mode");
    this.low = at("low");
    this.high = at("high");
    this.log = at("log");
    this.invert = at("invert");
    this.mode.addEventListener("change", () => this.modeChosen());
    for (const input of [this.low, this.high]) input.addEventListener("change", () => this.typed());
    this.log.addEventListener("change", () => changed({ log: this.log.checked }));
    this.invert.addEventListener("change", () => changed({ invert: this.invert.checked }));
    this.histogram.addEventListener("pointerdown", (event) => this.drag(event));
  }

  /** Show the state of this view. Cheap unless the frame or the contrast has changed. */
  update(view) {
    this.view = view;
    const { frame, show } = view;
    this.whose.textContent = frame ? `of ${title(frame.meta.name)}` : "";
    if (!frame) return;
    this.choices(kindOf(frame.meta), show.map, Boolean(frame.angle));
    const fixed = kindOf(frame.meta) === "cyclic";
    this.mode.value = show.mode;
    this.log.checked = show.log;
    this.invert.checked = show.invert;
    for (const control of [this.mode, this.low, this.high, this.log]) control.disabled = fixed;
    const percent = show.mode === "percentile";
    this.put(this.low, percent ? show.low : view.limits.lo, percent);
    this.put(this.high, percent ? show.high : view.limits.hi, percent);
    this.low.readOnly = this.high.readOnly = show.mode === "full";
    if (!fixed) this.draw();
    else sized(this.histogram);
  }

  put(input, value, percent) {
    if (document.activeElement === input) return;
    input.value = percent ? value : Number(value.toPrecision(5));
    input.step = percent ? 0.5 : "any";
    if (percent) [input.min, input.max] = [0, 100];
    else for (const key of ["min", "max"]) input.removeAttribute(key);
  }

  choices(kind, chosen, field) {
    const names = field ? [] : [...MAPS[kind], ...(kind === "diverging" ? ["gray"] : [])];
    const key = names.join();
    if (this.key !== key) {
      this.key = key;
      this.maps.replaceChildren(...names.map((name) => this.swatch(name)));
    }
    for (const input of this.maps.querySelectorAll("input")) input.checked = input.value === chosen;
  }

  swatch(name) {
    const choice = document.createElement("label");
    choice.className = "swatch";
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "map", value: name });
    input.addEventListener("change", () => this.changed({ map: name }));
    const picture = document.createElement("canvas");
    Object.assign(picture, { width: 96, height: 10 });
    strip(picture.getContext("2d"), 0, 0, 96, 10, name, false, false);
    choice.append(input, picture, name);
    return choice;
  }

  modeChosen() {
    const mode = this.mode.value;
    this.changed(mode === "manual" ? { mode, ...this.view.limits } : { mode });
  }

  typed() {
    const [a, b] = [this.low.valueAsNumber, this.high.valueAsNumber];
    if (!Number.isFinite(a) || !Number.isFinite(b) || b <= a) {
      document.activeElement.blur();
      this.update(this.view);
    } else if (this.view.show.mode === "percentile") this.changed({ low: a, high: b });
    else this.changed({ mode: "manual", lo: a, hi: b });
  }

  /** The values' distribution, with the limits as two lines that can be dragged. */
  draw() {
    const { frame, show, limits } = this.view;
    const { context, W, H } = sized(this.histogram);
    const sorted = sample(frame, show.log);
    if (!sorted.length || !W) return;
    // the axis shows the limits and a good part around them, so that the handles have room
    const room = show.log ? Math.log(limits.hi / limits.lo) * 0.25 : (limits.hi - limits.lo) * 0.3;
    this.axis = show.log
      ? { lo: limits.lo * Math.exp(-room), hi: limits.hi * Math.exp(room) }
      : { lo: limits.lo - room, hi: limits.hi + room };
    const bins = new Float64Array(BINS);
    for (const value of sorted) {
      const i = Math.floor(place(value, this.axis, show.log) * BINS);
      if (i >= 0 && i < BINS) bins[i] += 1;
    }
    const most = Math.max(1, ...bins);
    const colours = lut(frame.angle ? "gray" : show.map);
    const [left, right] = [limits.lo, limits.hi].map((v) => place(v, this.axis, show.log) * W);
    bins.forEach((n, i) => {
      if (!n) return;
      const x = (i / BINS) * W;
      const part = Math.min(1, Math.max(0, (x - left) / (right - left)));
      const k = Math.round(part * 255);
      const tall = Math.max(1, Math.sqrt(n / most) * (H - 6));
      context.fillStyle = css(colours[show.invert ? 255 - k : k]);
      context.globalAlpha = x < left - 1 || x > right + 1 ? 0.3 : 1;
      context.fillRect(x, H - tall, W / BINS - 0.5, tall);
      // dark colours would vanish on the dark panel: a light cap keeps the outline readable
      context.globalAlpha = 0.55;
      context.fillStyle = "#93a1b5";
      context.fillRect(x, H - tall, W / BINS - 0.5, 1);
    });
    context.globalAlpha = 1;
    context.fillStyle = "#eef3f8";
    for (const x of [left, right]) {
      context.fillRect(x - 0.75, 0, 1.5, H);
      context.beginPath();
      context.arc(x, 5, 4, 0, 2 * Math.PI);
      context.fill();
    }
    this.handles = [left, right];
  }

  drag(event) {
    const { frame, show } = this.view ?? {};
    if (!frame || !this.handles || kindOf(frame.meta) === "cyclic") return;
    const axis = { ...this.axis };
    const box = this.histogram.getBoundingClientRect();
    const value = (e) => {
      const t = (e.clientX - box.left) / box.width;
      return show.log ? axis.lo * (axis.hi / axis.lo) ** t : axis.lo + t * (axis.hi - axis.lo);
    };
    const x = event.clientX - box.left;
    const end = Math.abs(x - this.handles[0]) < Math.abs(x - this.handles[1]) ? "lo" : "hi";
    const other = this.view.limits[end === "lo" ? "hi" : "lo"];
    const move = (e) => {
      const now = value(e);
      if (end === "lo" ? now >= other : now <= other) return;
      const limits = end === "lo" ? { lo: now, hi: other } : { lo: other, hi: now };
      this.changed({ mode: "manual", ...limits });
    };
    const up = () => {
      this.histogram.removeEventListener("pointermove", move);
      this.histogram.removeEventListener("pointerup", up);
    };
    this.histogram.setPointerCapture(event.pointerId);
    this.histogram.addEventListener("pointermove", move);
    this.histogram.addEventListener("pointerup", up);
    move(event);
  }
}
