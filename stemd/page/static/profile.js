// Line profile: sampling along the line, and its plot.

import { blanks } from "./contrast.js";
import { distance, number, ticks } from "./format.js";

/** Values along a line between two image fractions, about one a pixel, linear in between. */
export function sampleLine(frame, from, to) {
  const { w, h, data } = frame;
  const { soft, hard } = blanks(frame);
  // fractions count from the outer edge; a pixel's value stands at its centre
  const [x0, y0] = [from.x * w - 0.5, from.y * h - 0.5];
  const [dx, dy] = [(to.x - from.x) * w, (to.y - from.y) * h];
  const pixels = Math.hypot(dx, dy);
  const n = Math.max(2, Math.min(4096, Math.round(pixels) + 1));
  const values = new Float32Array(n);
  const at = (x, y) => {
    const inside = x >= 0 && y >= 0 && x < w && y < h;
    const i = y * w + x;
    if (!inside || i >= hard) return NaN;
    return i >= soft && data[i] === 0 ? NaN : data[i];
  };
  for (let i = 0; i < n; i += 1) {
    const t = i / (n - 1);
    const [x, y] = [x0 + t * dx, y0 + t * dy];
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const [u, v] = [x - column, y - row];
    let sum = 0;
    for (const [part, cx, cy] of [
      [(1 - u) * (1 - v), column, row],
      [u * (1 - v), column + 1, row],
      [(1 - u) * v, column, row + 1],
      [u * v, column + 1, row + 1],
    ]) {
      if (part > 1e-9) sum += part * at(cx, cy);
    }
    values[i] = sum;
  }
  return { values, pixels };
}

/** Draw a profile on a canvas, with its axes. */
export function plot(canvas, frame, line) {
  const { values, pixels } = sampleLine(frame, line.from, line.to);
  const ratio = window.devicePixelRatio || 1;
  const [W, H] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(W * ratio);
  canvas.height = Math.round(H * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const found = values.filter((value) => value === value);
  if (!found.length) return;
  let [lo, hi] = [Math.min(...found), Math.max(...found)];
  if (lo === hi) [lo, hi] = [lo - 1, hi + 1];
  const box = { left: 52, top: 10, right: W - 10, bottom: H - 24 };
  const toX = (t) => box.left + t * (box.right - box.left);
  const toY = (value) => box.bottom - ((value - lo) / (hi - lo)) * (box.bottom - box.top);
  context.font = '11px "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif';
  context.fillStyle = "#93a1b5";
  context.strokeStyle = "#222b38";
  context.textAlign = "right";
  for (const value of ticks(lo, hi, 3)) {
    context.beginPath();
    context.moveTo(box.left, toY(value));
    context.lineTo(box.right, toY(value));
    context.stroke();
    context.fillText(number(value, 3), box.left - 6, toY(value) + 4);
  }
  const unit = frame.meta.pixel_size || 1;
  for (const value of ticks(0, pixels * unit, Math.max(2, (box.right - box.left) / 50))) {
    const x = toX(value / unit / pixels);
    context.textAlign = x > box.right - 24 ? "right" : "center";
    if (value > 0) context.fillText(distance(value / unit, frame.meta), x, H - 7);
  }
  context.strokeStyle = "#7fd1c7";
  context.lineWidth = 1.6;
  context.lineJoin = "round";
  context.beginPath();
  let pen = false;
  values.forEach((value, i) => {
    if (value !== value) {
      pen = false;
      return;
    }
    const [x, y] = [toX(i / (values.length - 1)), toY(value)];
    if (pen) context.lineTo(x, y);
    else context.moveTo(x, y);
    pen = true;
  });
  context.stroke();
}
