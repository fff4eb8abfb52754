// From values to colours: the limits of the contrast, and the loop that looks colours up.

import { kindOf, lut } from "./colormap.js";

const SAMPLES = 16384;
const sorted = new WeakMap();

/** A full turn in the units of an angle image. */
export const turn = (meta) => (meta.units === "rad" ? 2 * Math.PI : 360);

/** Whether a scan image is not whole (yet). */
export function hasBlanks(meta) {
  if (meta.axes === "detector") return false;
  return (meta.positions_done ?? 0) < (meta.positions_total ?? 0);
}

/**
 * Which pixels of a frame have not been scanned: those from index `hard` on, and those from
 * `soft` on that are exactly 0. Above the beam a 0 is a value (no counts); below it riCOM has
 * values already, since a kernel reaches ahead, that are no image yet. `meta.reached` counts the
 * positions that the beam has passed, the missing ones with them.
 */
export function blanks({ meta, w, h }) {
  const all = w * h;
  // where no electron of the scan has been used yet there is no phase, and it is not 0
  if (/_(phase|weight)$/.test(meta.name)) return { soft: 0, hard: all };
  if (!hasBlanks(meta)) return { soft: all, hard: all };
  if (!meta.scan_shape) return { soft: 0, hard: all };
  const [ny, nx] = meta.scan_shape;
  // in a reduced image the line at the beam is in part an average with nothing: it is left out
  const round = meta.step > 1 ? Math.floor : Math.ceil;
  const row = (positions) => Math.min(h, round((round(positions / nx) * h) / ny));
  const soft = Math.floor(Math.floor(meta.positions_done / nx) * (h / ny)) * w;
  // a scan that was cut off is final: holes may have kept its count behind its last lines
  const hard = meta.final ? all : row(meta.reached ?? meta.positions_done) * w;
  // a network that follows the scan has come so far only; its lines are those of the whole image
  const lines = (meta.final ? null : meta.extra?.lines) ?? Infinity;
  const end = Math.min(hard, Math.min(h, Math.floor(lines / (meta.step ?? 1))) * w);
  return { soft: Math.min(soft, end), hard: end };
}

const empty = new WeakMap();

/** Whether an unfinished image has no value yet: its engine has not got so far. */
export function isEmpty(frame) {
  if (frame.meta.final) return false;
  if (!empty.has(frame)) empty.set(frame, frame.data.every((value) => value === 0 || value !== value));
  return empty.get(frame);
}

/** How an image is shown until somebody changes it. */
export function defaults(meta, map) {
  const log = meta.axes === "detector";
  return { map, mode: "percentile", low: 0.5, high: log ? 99.9 : 99.5, lo: 0, hi: 1, log, invert: false };
}

/** Values of a frame that count, in ascending order; at most 16384 of them, evenly taken. */
export function sample(frame, log) {
  const known = sorted.get(frame);
  if (known?.log === log) return known.values;
  const values = take(frame, log);
  sorted.set(frame, { log, values });
  return values;
}

function take(frame, log) {
  const { data } = frame;
  const { soft: below, hard } = blanks(frame);
  // a scan that is over and not whole has holes anywhere: its zeros say nothing of the rest
  const soft = frame.meta.final && hasBlanks(frame.meta) ? 0 : below;
  const step = Math.max(1, Math.floor(hard / SAMPLES));
  const taken = new Float32Array(Math.ceil(hard / step));
  let n = 0;
  // an odd step does not fall on the same columns of an image whose width is a power of two
  const stride = step > 1 ? step | 1 : 1;
  for (let i = 0; i < hard && n < taken.length; i += stride) {
    const value = data[i];
    if (value !== value || (i >= soft && value === 0) || (log && value <= 0)) continue;
    taken[n] = value;
    n += 1;
  }
  return taken.subarray(0, n).sort();
}

/** The value below which `percent` of ascending values lie, linear between neighbours. */
export function percentile(values, percent) {
  if (values.length === 0) return NaN;
  const place = (Math.min(100, Math.max(0, percent)) / 100) * (values.length - 1);
  const i = Math.floor(place);
  const next = values[Math.min(i + 1, values.length - 1)];
  return values[i] + (next - values[i]) * (place - i);
}

/** The values {lo, hi} at the two ends of the colour map. `hi` is above `lo`, always. */
export function limits(frame, show) {
  const kind = kindOf(frame.meta);
  if (kind === "cyclic") {
    const half = turn(frame.meta) / 2;
    return { lo: -half, hi: half };
  }
  let { lo, hi } = show;
  if (show.mode !== "manual") {
    const values = sample(frame, show.log);
    const full = show.mode === "full";
    lo = percentile(values, full ? 0 : show.low);
    hi = percentile(values, full ? 100 : show.high);
    if (kind === "diverging") {
      hi = Math.max(Math.abs(lo), Math.abs(hi));
      lo = -hi;
    }
  }
  if (!Number.isFinite(lo) || !Number.isFinite(hi)) return show.log ? { lo: 0.1, hi: 1 } : { lo: 0, hi: 1 };
  if (show.log) {
    hi = Math.max(hi, 1e-30);
    lo = Math.min(Math.max(lo, hi * 1e-6), hi / 1.001);
  }
  if (!(hi > lo)) hi = lo + (Math.abs(lo) * 1e-3 || 1);
  return { lo, hi };
}

/** Colours of a frame into RGBA words `out`; blanks and NaN become transparent. */
export function colour(frame, { lo, hi }, show, out) {
  const { data, angle } = frame;
  const { soft, hard: n } = blanks(frame);
  const colours = lut(show.map);
  out.fill(0, n);
  const flip = show.invert ? 255 : 0;
  if (angle) {
    colourField(frame, { lo, hi }, out, soft, n);
  } else if (kindOf(frame.meta) === "cyclic") {
    const scale = 256 / turn(frame.meta);
    for (let i = 0; i < n; i += 1) {
      const value = data[i];
      if (value !== value || (i >= soft && value === 0)) out[i] = 0;
      else out[i] = colours[(Math.floor(value * scale) & 255) ^ flip];
    }
  } else if (show.log) {
    const base = Math.log(lo);
    const scale = 255.999 / (Math.log(hi) - base);
    for (let i = 0; i < n; i += 1) {
      const value = data[i];
      if (value !== value || (i >= soft && value === 0)) {
        out[i] = 0;
        continue;
      }
      const place = value > lo ? (Math.log(value) - base) * scale : 0;
      out[i] = colours[(place > 255 ? 255 : place | 0) ^ flip];
    }
  } else {
    const scale = 255.999 / (hi - lo);
    for (let i = 0; i < n; i += 1) {
      const value = data[i];
      if (value !== value || (i >= soft && value === 0)) {
        out[i] = 0;
        continue;
      }
      const place = (value - lo) * scale;
      out[i] = colours[(place > 255 ? 255 : place > 0 ? place | 0 : 0) ^ flip];
    }
  }
}

/** Direction as hue, magnitude as brightness. */
function colourField(frame, { hi }, out, soft, n) {
  const { data, angle } = frame;
  const colours = lut("hue wheel");
  const scale = 256 / turn(frame.angleMeta);
  const bright = 1 / (hi || 1);
  for (let i = 0; i < n; i += 1) {
    const size = data[i];
    if (size !== size || (i >= soft && size === 0 && angle[i] === 0)) {
      out[i] = 0;
      continue;
    }
    const word = colours[Math.floor(angle[i] * scale) & 255];
    const part = Math.min(1, size * bright);
    const r = ((word & 255) * part) | 0;
    const g = (((word >>> 8) & 255) * part) | 0;
    const b = (((word >>> 16) & 255) * part) | 0;
    out[i] = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  }
}
