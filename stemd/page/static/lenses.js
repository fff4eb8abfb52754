// The two lenses under the image: its power spectrum and the values along a line, both live.

import { defaults } from "./contrast.js";
import { attach } from "./gestures.js";
import { ImageView } from "./imageview.js";
import { resolutionRings } from "./overlay.js";
import { number } from "./format.js";
import { plot } from "./profile.js";
import { Viewport } from "./viewport.js";

const LARGEST = 1024;
const id = (name) => document.getElementById(name);

/** The visible part of a view as {data, w, h}, at most 1024 pixels wide and high. */
function cut(view) {
  const { x0, y0, x1, y1 } = view.visible();
  const { frame } = view;
  const w = Math.min(LARGEST, x1 - x0);
  const h = Math.min(LARGEST, y1 - y0);
  const data = new Float32Array(w * h);
  const [left, top] = [x0 + ((x1 - x0 - w) >> 1), y0 + ((y1 - y0 - h) >> 1)];
  for (let y = 0; y < h; y += 1) {
    const start = (top + y) * frame.w + left;
    data.set(frame.data.subarray(start, start + w), y * w);
  }
  return { data, w, h };
}

export class Lenses {
  constructor(view, redraw) {
    this.view = view;
    this.redraw = redraw;
    this.fftOn = false;
    this.profileOn = false;
    this.busy = false;
    this.of = null;
    this.spectrum = new ImageView(id("fft"), new Viewport(), [resolutionRings]);
    this.spectrum.wanted = redraw;
    this.spectrum.viewport.set(0.5, 0.5, 2); // lattices are drawn with pixels to spare
    attach(this.spectrum, { hover: (event) => this.readFft(event) });
  }

  toggle(which, on) {
    this[`${which}On`] = on;
    id(`${which}-button`).setAttribute("aria-pressed", String(on));
    id(`${which}-lens`).hidden = !on;
    if (which === "profile") {
      this.view.line = on ? (this.line ?? { from: { x: 0.25, y: 0.5 }, to: { x: 0.75, y: 0.5 } }) : null;
      this.view.dirty = true;
    }
    this.of = null;
    this.redraw();
  }

  /** Called once a frame of the screen, after the image was painted. */
  paint() {
    const { frame } = this.view;
    if (!frame) return;
    if (this.profileOn && this.view.line) this.paintProfile(frame);
    if (this.fftOn) this.paintFft(frame);
  }

  paintProfile(frame) {
    const { from, to } = this.view.line;
    const key = [from.x, from.y, to.x, to.y, id("profile").clientWidth].join();
    if (this.drawn === frame && this.key === key) return;
    this.drawn = frame;
    this.key = key;
    plot(id("profile"), frame, this.view.line);
  }

  paintFft(frame) {
    const part = this.view.visible();
    const key = `${part.x0},${part.y0},${part.x1},${part.y1}`;
    if (!this.busy && (this.of !== frame || this.part !== key)) {
      this.of = frame;
      this.part = key;
      const { data, w, h } = cut(this.view);
      if (w > 3 && h > 3) {
        this.busy = true;
        this.worker().postMessage({ data, w, h, about: { meta: frame.meta } }, [data.buffer]);
      }
    }
    this.spectrum.paint();
  }

  worker() {
    this.thread ??= new Worker(new URL("fft-worker.js", import.meta.url), { type: "module" });
    this.thread.onmessage = ({ data: { n, power, about } }) => {
      this.busy = false;
      const { meta } = about;
      const size = meta.axes === "scan" ? meta.pixel_size : null;
      const spectrum = { name: "fft", axes: "detector", units: "", pixel_size: null, step: size ? 1 / (n * size) : 0 };
      this.show ??= { ...defaults(spectrum, "inferno"), low: 55, high: 99.95 };
      this.spectrum.set({ meta: spectrum, data: power, w: n, h: n }, this.show);
      this.redraw();
    };
    // where its files did not come, the next image tries again
    this.thread.onerror = () => {
      this.thread = null;
      this.busy = false;
    };
    return this.thread;
  }

  readFft(event) {
    const { frame } = this.spectrum;
    const output = id("fft-read");
    const at = event && frame && this.spectrum.pixel(this.spectrum.toImage(event));
    if (!at || !frame.meta.step) {
      output.textContent = "";
      return;
    }
    const radius = Math.hypot(at.x - frame.w / 2, at.y - frame.h / 2) * frame.meta.step;
    output.textContent = radius > 0 ? `${number(1 / radius, 3)} Å (${number(radius, 3)} Å⁻¹)` : "mean";
  }

  /** A drag on the image: takes hold of an end of the line, or draws a new one. */
  grab(event) {
    const { view } = this;
    if (!this.profileOn || !view.frame) return null;
    const fraction = (e) => {
      const at = view.toImage(e);
      return { x: at.x / view.frame.w, y: at.y / view.frame.h };
    };
    const start = fraction(event);
    const near = (end) => {
      const dx = (end.x - start.x) * view.frame.w * view.scale;
      const dy = (end.y - start.y) * view.frame.h * view.scale;
      return Math.hypot(dx, dy) < 14 * view.ratio;
    };
    const { from, to } = view.line;
    const kept = near(to) ? from : near(from) ? to : start;
    const swapped = kept === to;
    const move = (e) => {
      const now = fraction(e);
      view.line = swapped ? { from: now, to: kept } : { from: kept, to: now };
      this.line = view.line;
      view.dirty = true;
      this.redraw();
    };
    return { move, drop: () => {} };
  }
}
