// What riCOM's kernel keeps of each spatial frequency, and the curve of it.

import { fft } from "./fft.js";
import { number, ticks } from "./format.js";

const POINTS = 260;
const MOST = 0.25; // cycles a pixel at the right end: beyond it every kernel does the same
const MAX_GRID = 512;

/** x component of the n x n kernel of docs/conventions.md, row-major. */
function kernel(n) {
  const half = (n - 1) / 2;
  const out = new Float64Array(n * n);
  for (let y = -half; y <= half; y += 1) {
    for (let x = -half; x <= half; x += 1) {
      if (x || y) out[(y + half) * n + x + half] = x / (2 * Math.PI * (x * x + y * y));
    }
  }
  return out;
}

/** Columns of an n x n array, summed. */
function columns(values, n, pitch = n) {
  const sums = new Float64Array(n);
  for (let y = 0; y < n; y += 1) for (let x = 0; x < n; x += 1) sums[x] += values[y * pitch + x];
  return sums;
}

function fft2(re, im, g) {
  const [r, i] = [new Float64Array(g), new Float64Array(g)];
  for (let y = 0; y < g; y += 1) fft(re.subarray(y * g, (y + 1) * g), im.subarray(y * g, (y + 1) * g));
  for (let x = 0; x < g; x += 1) {
    for (let y = 0; y < g; y += 1) [r[y], i[y]] = [re[y * g + x], im[y * g + x]];
    fft(r, i);
    for (let y = 0; y < g; y += 1) [re[y * g + x], im[y * g + x]] = [r[y], i[y]];
  }
}

/** Column sums of the band-passed kernel, cut back to n x n as the engine does. */
function passed(n, [low, high], size) {
  let g = 2;
  while (g < n || (g < size && g < MAX_GRID)) g *= 2;
  const [re, im] = [new Float64Array(g * g), new Float64Array(g * g)];
  const values = kernel(n);
  for (let y = 0; y < n; y += 1) re.set(values.subarray(y * n, (y + 1) * n), y * g);
  fft2(re, im, g);
  const cycles = (i) => ((i < g / 2 ? i : i - g) / g) * size;
  for (let y = 0; y < g; y += 1) {
    for (let x = 0; x < g; x += 1) {
      const radius = Math.hypot(cycles(y), cycles(x));
      const keep = radius >= low && radius <= high ? 1 / (g * g) : 0;
      // the conjugate, so that the same transform leads back
      re[y * g + x] *= keep;
      im[y * g + x] *= -keep;
    }
  }
  fft2(re, im, g);
  return columns(re, n, g);
}

/**
 * The part of a wave of the potential that the riCOM image shows, at spatial frequencies in
 * cycles a pixel: 2 pi k sum K_x sin(2 pi k x). 1 is all of it, as iCOM shows it. `band` is
 * [k_min, k_max] in waves over the image of `size` pixels, or null.
 */
export function transfer(n, band, size, frequencies) {
  const exact = band && n <= MAX_GRID;
  const sums = exact ? passed(n, band, size) : columns(kernel(n), n);
  const half = (n - 1) / 2;
  return frequencies.map((k) => {
    if (band && !exact && (k * size < band[0] || k * size > band[1])) return 0;
    let sum = 0;
    for (let x = -half; x <= half; x += 1) sum += sums[x + half] * Math.sin(2 * Math.PI * k * x);
    return 2 * Math.PI * k * sum;
  });
}

/** The curve of one kernel under its control. */
export class TransferCurve {
  constructor() {
    this.figure = document.createElement("figure");
    this.canvas = document.createElement("canvas");
    this.canvas.width = 520;
    this.canvas.height = 150;
    this.canvas.setAttribute("role", "img");
    const caption = document.createElement("figcaption");
    caption.textContent = "Contrast that the kernel keeps of each spatial frequency";
    this.figure.append(this.canvas, caption);
    this.shown = {};
  }

  /** Show a kernel; what is not given stays: {n, band, size, step} with step in angstrom or null. */
  show(part) {
    const now = { ...this.shown, ...part };
    const key = JSON.stringify(now);
    if (key === this.key || !(now.n >= 3)) return;
    this.key = key;
    this.shown = now;
    const { n, band, size, step } = now;
    const frequencies = Array.from({ length: POINTS }, (_, i) => ((i + 1) / POINTS) * MOST);
    this.draw(transfer(n, band, Math.max(size, n), frequencies), step ? MOST / step : MOST, step);
    const pass = band ? `, band-pass ${band[0]} to ${band[1]}` : "";
    this.canvas.setAttribute("aria-label", `Transfer of a ${n} pixel kernel${pass}`);
  }

  draw(values, right, step) {
    const context = this.canvas.getContext("2d");
    const [width, floor, top] = [this.canvas.width, 122, 8];
    const y = (value) => floor - (value / Math.max(1.25, ...values)) * (floor - top);
    context.clearRect(0, 0, width, 150);
    context.strokeStyle = "rgb(255 255 255 / 0.22)";
    context.lineWidth = 1.5;
    context.setLineDash([6, 6]);
    context.beginPath();
    context.moveTo(0, y(1));
    context.lineTo(width, y(1));
    context.stroke();
    context.setLineDash([]);
    const shade = context.createLinearGradient(0, top, 0, floor);
    shade.addColorStop(0, "rgb(127 209 199 / 0.35)");
    shade.addColorStop(1, "rgb(127 209 199 / 0)");
    context.beginPath();
    context.moveTo(0, y(0));
    values.forEach((value, i) => context.lineTo(((i + 1) / POINTS) * width, y(value)));
    context.strokeStyle = "#7fd1c7";
    context.lineWidth = 2.5;
    context.stroke();
    context.lineTo(width, floor);
    context.lineTo(0, floor);
    context.fillStyle = shade;
    context.fill();
    context.fillStyle = "#8b98a9";
    context.font = '20px "Segoe UI", Roboto, "Liberation Sans", sans-serif';
    for (const mark of ticks(0, right, 4)) {
      const x = (mark / right) * width;
      if (x > width - 80) continue; // the unit stands there
      context.textAlign = mark === 0 ? "left" : "center";
      context.fillText(number(mark, 3), x, 146);
    }
    context.textAlign = "right";
    context.fillText(step ? "Å⁻¹" : "px⁻¹", width - 2, 146);
  }
}
