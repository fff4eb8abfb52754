// Virtual detectors as rings on a diffraction pattern; their edges and the centre can be dragged.

import { title } from "./format.js";

const COLOURS = ["#7fd1c7", "#f0b35a", "#b79cf2", "#7fb0ff", "#f28db2", "#b8d86b"];
const DARK = "rgb(4 7 11 / 0.8)";
const GRIP = 9;

/** All rings of the settings: {engine, key, name, edges: [inner, outer], perPixel}. */
export function ringsOf(settings, meta) {
  const rings = [];
  for (const [engine, values] of Object.entries(settings ?? {})) {
    if (typeof values !== "object" || values === null) continue;
    for (const key of ["detectors", "detectors_px"]) {
      const perPixel = key === "detectors" ? meta.pixel_size : meta.step || 1;
      if (!perPixel) continue;
      for (const [name, edges] of Object.entries(values[key] ?? {})) {
        if (Array.isArray(edges)) rings.push({ engine, key, name, edges, perPixel });
      }
    }
  }
  return rings;
}

/**
 * The centre in pixels of the frame as sent, (x, y) of the pixel's middle: as set by hand, as the
 * engines found it (`found`, [y, x] in detector pixels), or else the pattern's centre of mass.
 */
export function centreOf(frame, settings, found) {
  const step = frame.meta.step || 1;
  const set = settings?.optics?.center;
  const known = Array.isArray(set) ? set : (frame.meta.extra?.center ?? found);
  if (Array.isArray(known)) return { x: (known[1] + 0.5) / step, y: (known[0] + 0.5) / step };
  if (frame.centre) return frame.centre;
  let [sum, sx, sy] = [0, 0, 0];
  for (let i = 0; i < frame.data.length; i += 1) {
    const value = frame.data[i];
    sum += value;
    sx += value * (i % frame.w);
    sy += value * Math.floor(i / frame.w);
  }
  const middle = { x: frame.w / 2, y: frame.h / 2 };
  frame.centre = sum > 0 ? { x: sx / sum + 0.5, y: sy / sum + 0.5 } : middle;
  return frame.centre;
}

/**
 * Draws the rings and lets them be dragged. `settings()` are those in force, `found()` is the
 * centre that the engines use, `change(part)` sends a settings change.
 */
export class Rings {
  constructor(settings, found, change) {
    this.settings = settings;
    this.found = found;
    this.change = change;
    this.held = null;
    this.sent = 0;
    this.overlay = (context, view) => this.draw(context, view);
  }

  /** What is on the screen: the settings in force, with what the pointer holds moved. */
  now(view) {
    const rings = ringsOf(this.settings(), view.frame.meta);
    let centre = centreOf(view.frame, this.settings(), this.found());
    if (this.held?.centre) centre = this.held.centre;
    if (this.held?.ring) {
      const same = rings.find((r) => r.name === this.held.ring.name && r.key === this.held.ring.key);
      if (same) same.edges = this.held.edges;
    }
    return { rings, centre };
  }

  draw(context, view) {
    if (view.frame.meta.axes !== "detector") return;
    const { rings, centre } = this.now(view);
    const [x, y] = view.toScreen(centre.x, centre.y);
    const { ratio } = view;
    context.beginPath();
    context.rect(view.left, view.top, view.frame.w * view.scale, view.frame.h * view.scale);
    context.clip();
    rings.forEach((ring, i) => {
      const [inner, outer] = ring.edges.map((edge) => (edge / ring.perPixel) * view.scale);
      const colour = COLOURS[i % COLOURS.length];
      context.fillStyle = colour;
      context.globalAlpha = 0.07;
      context.beginPath();
      context.arc(x, y, outer, 0, 2 * Math.PI);
      if (inner > 0) context.arc(x, y, inner, 0, 2 * Math.PI, true);
      context.fill();
      context.globalAlpha = 1;
      for (const radius of [inner, outer]) {
        if (radius <= 0) continue;
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        // the dark edge shows on the bright disc, the colour on everything else
        for (const [style, width] of [[DARK, 4], [colour, 1.8]]) {
          context.strokeStyle = style;
          context.lineWidth = width * ratio;
          context.stroke();
        }
        const turn = -Math.PI / 4 + i * 0.5;
        context.beginPath();
        context.arc(x + radius * Math.cos(turn), y + radius * Math.sin(turn), 4.5 * ratio, 0, 7);
        context.strokeStyle = DARK;
        context.lineWidth = 3 * ratio;
        context.stroke();
        context.fill();
      }
      context.globalAlpha = 1;
      const top = Math.max(view.top, 0) + 18 * ratio;
      context.font = `600 ${12 * ratio}px "Segoe UI", Roboto, "Liberation Sans", sans-serif`;
      context.textAlign = "center";
      const middle = inner > 0 ? (inner + outer) / 2 : outer * 0.5;
      context.lineWidth = 3 * ratio;
      context.strokeStyle = DARK;
      const place = Math.max(top, y - middle + 4 * ratio);
      context.strokeText(title(ring.name), x, place);
      context.fillText(title(ring.name), x, place);
    });
    const arm = 8 * ratio;
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    context.moveTo(x, y - arm);
    context.lineTo(x, y + arm);
    // the bright disc is as light as the cross: its dark edge shows there
    for (const [style, width] of [[DARK, 4], ["#eef3f8", 1.6]]) {
      context.strokeStyle = style;
      context.lineWidth = width * ratio;
      context.stroke();
    }
  }

  /** What is under the pointer, as a drag for gestures.js; null when nothing is. */
  grab(event, view) {
    if (!view.frame || view.frame.meta.axes !== "detector" || !this.settings()) return null;
    const { rings, centre } = this.now(view);
    const reach = GRIP * (event.pointerType === "touch" ? 2 : 1) * (view.ratio / view.scale);
    const distance = (e) => {
      const at = view.toImage(e);
      return Math.hypot(at.x - centre.x, at.y - centre.y);
    };
    const start = distance(event);
    if (start < reach) return this.drag(view, (e) => this.moveCentre(view, e));
    for (const ring of [...rings].reverse()) {
      // the outer edge first: an inner edge of 0 lies under the centre's cross
      for (const end of [1, 0]) {
        const radius = ring.edges[end] / ring.perPixel;
        if (radius > 0 && Math.abs(start - radius) < reach) {
          return this.drag(view, (e) => this.moveEdge(ring, end, distance(e)));
        }
      }
    }
    return null;
  }

  drag(view, move) {
    const send = (part, last) => {
      // ten changes a second are as live as the images; the last one always goes out
      if (!last && performance.now() - this.sent < 100) return null;
      this.sent = performance.now();
      return this.change(part);
    };
    let part = null;
    return {
      move: (event) => {
        part = move(event);
        view.dirty = true;
        view.wanted?.();
        send(part, false);
      },
      drop: async () => {
        if (part) await send(part, true);
        this.held = null;
        view.dirty = true;
        view.wanted?.();
      },
    };
  }

  moveCentre(view, event) {
    const step = view.frame.meta.step || 1;
    const centre = view.toImage(event);
    this.held = { centre };
    const round = (value) => Math.round((value * step - 0.5) * 100) / 100;
    return { optics: { center: [round(centre.y), round(centre.x)] } };
  }

  moveEdge(ring, end, radius) {
    const edges = [...ring.edges];
    edges[end] = Math.round(radius * ring.perPixel * 100) / 100;
    if (end === 0) edges[0] = Math.max(0, Math.min(edges[0], edges[1] - 0.01));
    else edges[1] = Math.max(edges[1], edges[0] + 0.01);
    this.held = { ring, edges };
    const all = { ...this.settings()[ring.engine][ring.key], [ring.name]: edges };
    return { [ring.engine]: { [ring.key]: all } };
  }
}
