// Colour maps as 256-entry tables, built here from a few anchors in OKLab, where equal steps
// look equal (B. Ottosson, "A perceptual color space for image processing", 2020).

const toLinear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const toGamma = (c) => (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055);

/** sRGB (0..255 each) to OKLab [L, a, b]. */
export function toOklab([red, green, blue]) {
  const [r, g, b] = [red, green, blue].map((c) => toLinear(c / 255));
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

/** OKLab to sRGB (0..255 each), clipped to what a screen shows. */
export function fromOklab([L, a, b]) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((c) => Math.round(255 * Math.min(1, Math.max(0, toGamma(Math.max(0, c))))));
}

const hex = (text) => [0, 2, 4].map((i) => parseInt(text.slice(i, i + 2), 16));

/** A table through anchors: OKLab, smooth (Catmull-Rom) in colour, linear in lightness. */
function sequential(anchors) {
  const points = anchors.split(" ").map((text) => toOklab(hex(text)));
  const last = points.length - 1;
  const [first, end] = [points[0][0], points[last][0]];
  return table((t) => {
    const i = Math.min(last - 1, Math.floor(t * last));
    const u = t * last - i;
    const at = (k) => points[Math.min(last, Math.max(0, k))];
    const [p, q, r, s] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
    const smooth = (c) =>
      q[c] +
      0.5 *
        u *
        (r[c] - p[c] + u * (2 * p[c] - 5 * q[c] + 4 * r[c] - s[c] + u * (3 * (q[c] - r[c]) + s[c] - p[c])));
    return [first + (end - first) * t, smooth(1), smooth(2)];
  });
}

/** Two hues that meet in a dark, or light, neutral middle: equal lightness at equal distance. */
function diverging(hueLow, hueHigh, middle, ends, chroma) {
  return table((t) => {
    const side = 2 * t - 1;
    const far = Math.abs(side);
    const hue = ((side < 0 ? hueLow : hueHigh) * Math.PI) / 180;
    const c = chroma * Math.sin((Math.min(1, far * 1.15) * Math.PI) / 2) * (1 - 0.35 * far ** 3);
    return [middle + (ends - middle) * far, c * Math.cos(hue), c * Math.sin(hue)];
  });
}

/** Once round the hues at one lightness. */
const wheel = (lightness, chroma) =>
  table((t) => {
    const hue = 2 * Math.PI * t;
    return [lightness, chroma * Math.cos(hue), chroma * Math.sin(hue)];
  }, true);

const table = (colour, cyclic = false) =>
  Uint32Array.from({ length: 256 }, (_, i) => word(fromOklab(colour(cyclic ? i / 256 : i / 255))));

/** sRGB as one word: the bytes of RGBA on little-endian machines. */
function word([r, g, b]) {
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

const BUILD = {
  // the screen's own grays, as every other image program shows them
  gray: () => Uint32Array.from({ length: 256 }, (_, i) => word([i, i, i])),
  viridis: () =>
    sequential("440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725"),
  inferno: () =>
    sequential("000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4"),
  magma: () =>
    sequential("000004 180f3d 440f76 721f81 9e2f7f cd4071 f1605d fd9668 feca8d fcfdbf"),
  cividis: () =>
    sequential("00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838"),
  "ice-ember": () => diverging(236, 52, 0.16, 0.86, 0.135),
  "blue-red": () => diverging(255, 27, 0.95, 0.42, 0.17),
  "hue wheel": () => wheel(0.72, 0.12),
};

export const MAPS = {
  sequential: ["gray", "viridis", "inferno", "magma", "cividis"],
  diverging: ["ice-ember", "blue-red"],
  cyclic: ["hue wheel"],
};

const built = new Map();

/** The 256 colours of a map as RGBA words, the lowest value first. */
export function lut(name) {
  if (!built.has(name)) built.set(name, (BUILD[name] ?? BUILD.gray)());
  return built.get(name);
}

/** What kind of map suits an image: "sequential", "diverging" or "cyclic". */
export function kindOf(meta) {
  if (meta.name.endsWith("direction")) return "cyclic";
  if (/^com_[yx]$/.test(meta.name)) return "diverging";
  return "sequential";
}

/** The map that an image is shown with until somebody chooses another. */
export function defaultMap(meta) {
  const kind = kindOf(meta);
  if (kind !== "sequential") return MAPS[kind][0];
  if (meta.axes === "detector") return "inferno";
  if (meta.name.startsWith("airpi") || meta.name.startsWith("ssb") || meta.name === "direct_phase") return "magma";
  return "gray";
}

/** One table entry as CSS. */
export function css(word) {
  return `rgb(${word & 255} ${(word >>> 8) & 255} ${(word >>> 16) & 255})`;
}
