// What is drawn on top of an image: scale bar, the beam's line, cursor, profile line, colour wheel.

import { css, lut } from "./colormap.js";
import { hasBlanks } from "./contrast.js";
import { distance, niceBelow } from "./format.js";

const INK = "#eef3f8";
export const ACCENT = "#7fd1c7";

/** Text that stays readable on any image. */
function label(context, text, x, y, size, align = "center") {
  context.font = `600 ${size}px "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif`;
  context.textAlign = align;
  context.lineJoin = "round";
  context.lineWidth = size / 4;
  context.strokeStyle = "rgb(4 7 11 / 0.75)";
  context.strokeText(text, x, y);
  context.fillStyle = INK;
  context.fillText(text, x, y);
}

/** A bar of a round length, at most a quarter of the view. */
export function scaleBar(context, view) {
  const { frame, ratio, canvas } = view;
  const unit = frame.meta.pixel_size || 1;
  const most = Math.min(canvas.width * 0.25, 220 * ratio);
  const bar = niceBelow((most / view.scale) * unit) / unit;
  const [x, y] = [16 * ratio, canvas.height - 18 * ratio];
  const long = bar * view.scale;
  context.shadowColor = "rgb(4 7 11 / 0.8)";
  context.shadowBlur = 4 * ratio;
  context.fillStyle = INK;
  context.fillRect(x, y, long, 4 * ratio);
  context.shadowBlur = 0;
  const text = distance(bar, frame.meta);
  context.font = `600 ${13 * ratio}px sans-serif`;
  const middle = x + Math.max(long, context.measureText(text).width) / 2;
  label(context, text, middle, y - 7 * ratio, 13 * ratio);
}

/** Small marks at both ends of the scan line where the beam is now. */
export function beamLine(context, view) {
  const { frame, ratio } = view;
  const { meta } = frame;
  if (!hasBlanks(meta) || meta.final || !meta.scan_shape) return;
  const [ny, nx] = meta.scan_shape;
  const row = Math.min(ny, (meta.reached ?? meta.positions_done) / nx) * (frame.h / ny);
  const [left, y] = view.toScreen(0, row);
  const [right] = view.toScreen(frame.w, row);
  const size = 6 * ratio;
  context.fillStyle = ACCENT;
  for (const [x, way] of [
    [Math.max(left, 0), 1],
    [Math.min(right, view.canvas.width), -1],
  ]) {
    context.beginPath();
    context.moveTo(x, y - size);
    context.lineTo(x + way * size * 1.3, y);
    context.lineTo(x, y + size);
    context.fill();
  }
  context.globalAlpha = 0.5;
  context.fillRect(Math.max(left, 0), y - ratio / 2, right - Math.max(left, 0), ratio);
}

/** A cross around the pixel that is read out. */
export function cursor(context, view) {
  const at = view.cursor;
  if (!at) return;
  const [x, y] = view.toScreen(at.x, at.y);
  const side = Math.max(view.scale, 3 * view.ratio);
  context.strokeStyle = INK;
  context.lineWidth = view.ratio;
  context.strokeRect(x + (view.scale - side) / 2, y + (view.scale - side) / 2, side, side);
}

/** The line whose profile is drawn, with its two ends as handles. */
export function profileLine(context, view) {
  if (!view.line) return;
  const { from, to } = view.line;
  const ends = [from, to].map((end) => view.toScreen(end.x * view.frame.w, end.y * view.frame.h));
  const draw = (width, style) => {
    context.lineWidth = width * view.ratio;
    context.strokeStyle = style;
    context.beginPath();
    context.moveTo(...ends[0]);
    context.lineTo(...ends[1]);
    context.stroke();
  };
  draw(4, "rgb(4 7 11 / 0.6)");
  draw(1.6, ACCENT);
  ends.forEach(([x, y], i) => {
    context.beginPath();
    context.arc(x, y, 5 * view.ratio, 0, 2 * Math.PI);
    context.fillStyle = i ? "#0b0f15" : ACCENT;
    context.fill();
    context.lineWidth = 1.6 * view.ratio;
    context.stroke();
  });
}

/** For the field: which hue is which direction. */
export function wheel(context, view) {
  if (!view.frame.angle) return;
  const { ratio, canvas } = view;
  const radius = Math.min(30 * ratio, canvas.width * 0.08);
  const [x, y] = [canvas.width - radius - 16 * ratio, canvas.height - radius - 16 * ratio];
  const colours = lut("hue wheel");
  for (let i = 0; i < 256; i += 1) {
    const turn = (-i / 256) * 2 * Math.PI; // directions count counter-clockwise, canvas angles do not
    context.beginPath();
    context.moveTo(x, y);
    context.arc(x, y, radius, turn - 0.035, turn);
    context.fillStyle = css(colours[i]);
    context.fill();
  }
  const shade = context.createRadialGradient(x, y, 0, x, y, radius);
  shade.addColorStop(0, "rgb(8 11 16 / 1)");
  shade.addColorStop(1, "rgb(8 11 16 / 0)");
  context.fillStyle = shade;
  context.beginPath();
  context.arc(x, y, radius + ratio, 0, 2 * Math.PI);
  context.fill();
}

/** Rings of equal resolution on a power spectrum whose pixel is `step` inverse angstrom. */
export function resolutionRings(context, view) {
  const { step } = view.frame.meta;
  if (!step) return;
  const middle = view.frame.w / 2;
  const [x, y] = view.toScreen(middle + 0.5, middle + 0.5);
  context.lineWidth = view.ratio;
  context.setLineDash([3 * view.ratio, 4 * view.ratio]);
  const highest = step * middle;
  for (const angstrom of [20, 10, 5, 4, 3, 2, 1.5, 1, 0.8, 0.6, 0.5]) {
    const part = 1 / angstrom / highest;
    if (part > 0.97 || part < 0.16) continue;
    const radius = part * middle * view.scale;
    if (view.lastRing && radius - view.lastRing < 20 * view.ratio) continue;
    view.lastRing = radius;
    context.strokeStyle = "rgb(238 243 248 / 0.35)";
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
    if (x + radius * Math.SQRT1_2 > view.canvas.width - 34 * view.ratio) continue;
    const diagonal = radius * Math.SQRT1_2;
    label(context, `${angstrom} Å`, x + diagonal, y - diagonal, 11 * view.ratio, "left");
    context.setLineDash([3 * view.ratio, 4 * view.ratio]);
  }
  view.lastRing = 0;
}
