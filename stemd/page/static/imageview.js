// One image on one canvas: colours once per frame, then any zoom by the canvas itself.

import { colour, limits } from "./contrast.js";
import { transform } from "./viewport.js";

export class ImageView {
  /** `overlays` are functions (context, view) that draw on top, in device pixels. */
  constructor(canvas, viewport, overlays = []) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.buffer = document.createElement("canvas");
    this.overlays = overlays;
    this.frame = null;
    this.show = null;
    this.limits = { lo: 0, hi: 1 };
    this.stale = false;
    this.dirty = true;
    this.resized = new ResizeObserver(() => {
      this.dirty = true;
      this.wanted?.();
    });
    this.resized.observe(canvas);
    this.look(viewport);
  }

  /** Share the zoom and centre of `viewport` from now on. */
  look(viewport) {
    if (this.viewport === viewport) return;
    this.viewport?.listeners.delete(this.moved);
    this.viewport = viewport;
    this.moved = () => {
      this.dirty = true;
      this.wanted?.();
    };
    viewport.listeners.add(this.moved);
    this.dirty = true;
  }

  /** Show this frame, or nothing when null. */
  set(frame, show) {
    this.frame = frame;
    this.show = show;
    this.stale = this.dirty = true;
  }

  /** No longer on the page. */
  release() {
    this.resized.disconnect();
    this.viewport.listeners.delete(this.moved);
  }

  /** The colours are computed again only when the frame or the contrast has changed. */
  recolour() {
    const { w, h } = this.frame;
    if (this.buffer.width !== w || this.buffer.height !== h || !this.pixels) {
      this.buffer.width = w;
      this.buffer.height = h;
      this.pixels = this.buffer.getContext("2d").createImageData(w, h);
      this.words = new Uint32Array(this.pixels.data.buffer);
    }
    this.limits = limits(this.frame, this.show);
    colour(this.frame, this.limits, this.show, this.words);
    this.buffer.getContext("2d").putImageData(this.pixels, 0, 0);
    this.stale = false;
  }

  /** Draw if anything has changed. */
  paint() {
    if (!this.dirty) return;
    const { canvas, context } = this;
    this.ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * this.ratio);
    const height = Math.round(canvas.clientHeight * this.ratio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    this.dirty = false;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.frame) return;
    if (this.stale) this.recolour();
    const { w, h } = this.frame;
    const { scale, left, top } = transform(this.viewport, w, h, width, height);
    this.scale = scale;
    this.left = left;
    this.top = top;
    context.fillStyle = "#10151d";
    context.fillRect(left, top, w * scale, h * scale);
    context.imageSmoothingEnabled = scale < 1;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.buffer, left, top, w * scale, h * scale);
    for (const overlay of this.overlays) {
      context.save();
      overlay(context, this);
      context.restore();
    }
  }

  /** Image coordinates (pixels, the first pixel covers 0..1) of a pointer event. */
  toImage(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) * this.ratio - this.left) / this.scale;
    const y = ((event.clientY - box.top) * this.ratio - this.top) / this.scale;
    return { x, y };
  }

  /** Device pixels of image coordinates. */
  toScreen(x, y) {
    return [this.left + x * this.scale, this.top + y * this.scale];
  }

  /** Whole pixel under image coordinates, null outside the image. */
  pixel({ x, y }) {
    if (!this.frame) return null;
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const inside = column >= 0 && row >= 0 && column < this.frame.w && row < this.frame.h;
    return inside ? { x: column, y: row, index: row * this.frame.w + column } : null;
  }

  /** The part of the image that is visible: {x0, y0, x1, y1} in whole pixels. */
  visible() {
    const { w, h } = this.frame;
    const cut = (value, most) => Math.min(most, Math.max(0, value));
    return {
      x0: cut(Math.floor(-this.left / this.scale), w),
      y0: cut(Math.floor(-this.top / this.scale), h),
      x1: cut(Math.ceil((this.canvas.width - this.left) / this.scale), w),
      y1: cut(Math.ceil((this.canvas.height - this.top) / this.scale), h),
    };
  }
}
