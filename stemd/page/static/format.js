// Numbers, units and names as people read them.

const NAMES = {
  ricom: "riCOM",
  icom: "iCOM",
  com_y: "COM y",
  com_x: "COM x",
  field: "Field",
  field_magnitude: "Field magnitude",
  field_direction: "Field direction",
  sum: "Sum",
  pacbed: "Mean pattern",
  pattern: "Latest pattern",
  airpi_phase: "AIRPI phase",
  airpi_weight: "AIRPI weight",
  airpi_uncertainty: "AIRPI uncertainty",
  ssb_phase: "SSB phase",
  direct_phase: "Direct phase",
  direct_uncertainty: "Direct uncertainty",
  bf: "BF",
  abf: "ABF",
  df: "DF",
  adf: "ADF",
  haadf: "HAADF",
};

/** A result's name for people: "ricom" is riCOM, "adf_restored" is ADF restored. */
export function title(name) {
  if (NAMES[name]) return NAMES[name];
  const made = /^(.*)_(restored|uncertainty|corrected)$/.exec(name);
  if (made) return `${title(made[1])} ${made[2]}`;
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

const UNITS = { deg: "°", mrad: "mrad", ev: "eV", hz: "Hz", us: "µs", ns: "ns", s: "s", angstrom: "Å", nm: "nm", mm: "mm", mb: "MB", gb: "GB", px: "px" };
const SUFFIX = new RegExp(`_(${Object.keys(UNITS).join("|")})$`);

/** The unit at the end of a setting's key, as it is printed. */
export function unitOf(key) {
  return UNITS[SUFFIX.exec(key)?.[1]];
}

const DIRECTIONS = new Set(["astigmatism_deg", "coma_deg", "threefold_deg"]);

/** A setting's key for people: "rotation_deg" is Rotation. Units stand beside the control. */
export function keyTitle(key) {
  // a length and its direction have one name in the config
  if (DIRECTIONS.has(key)) return `${keyTitle(key.replace(/_deg$/, "_nm"))} direction`;
  const words = key.replace(SUFFIX, "").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** About `digits` significant digits, no needless zeros, a true minus sign. */
export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text;
  if (size >= 1e6 || size < 1e-3) {
    const [mantissa, exponent] = value.toExponential(Math.max(0, digits - 2)).split("e");
    const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
    text = `${short}e${Number(exponent)}`;
  } else {
    const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
    text = value.toFixed(places);
    if (text.includes(".")) text = text.replace(/\.?0+$/, "");
  }
  return text.replaceAll("-", "−");
}

/** Units as they are printed: "px*px" is px². */
export function units(text) {
  return (text ?? "").replace(/\b(\w+)\*\1\b/g, "$1²").replaceAll("*", " ");
}

/** A whole number with thin spaces between thousands. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A speed or another positive number, short: 12.3 k, 1.20 M. */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const [scale, letter] = value >= 1e6 ? [1e6, " M"] : value >= 1e4 ? [1e3, " k"] : [1, ""];
  return number(value / scale, 3) + letter;
}

/** Bytes in binary units. */
export function bytes(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  let rest = value;
  while (rest >= 1000 && i < units.length - 1) {
    rest /= 1024;
    i += 1;
  }
  return `${number(rest, 3)} ${units[i]}`;
}

/** Seconds as "42 s", "3 min 20 s", "2 h 5 min". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${number(seconds, 2)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** A length in angstrom, in the unit that suits its size. */
export function length(angstrom) {
  if (angstrom >= 1e4) return `${number(angstrom / 1e4, 3)} µm`;
  if (angstrom >= 1) return `${number(angstrom / 10, 3)} nm`;
  return `${number(angstrom * 100, 3)} pm`;
}

/** A length or angle along an image axis: nm for scans, mrad for patterns, else pixels. */
export function distance(pixels, meta) {
  if (!meta.pixel_size) return `${number(pixels, 3)} px`;
  const size = pixels * meta.pixel_size;
  return meta.axes === "detector" ? `${number(size, 3)} mrad` : length(size);
}

/** The largest of 1, 2, 5 times a power of ten that is not above `limit`. */
export function niceBelow(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  for (const step of [5, 2, 1]) {
    if (step * power <= limit * (1 + 1e-9)) return step * power;
  }
  return power;
}

/** Round values from lo to hi, about `wanted` of them. */
export function ticks(lo, hi, wanted = 5) {
  if (!(hi > lo)) return [lo];
  const step = niceBelow(((hi - lo) / wanted) * 1.5);
  const found = [];
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i += 1) {
    found.push(i === 0 ? 0 : i * step);
  }
  return found;
}

/** The time of a scan id, as local time for people; the id itself if it is none. */
export function scanTime(id) {
  const m = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z-/.exec(id ?? "");
  if (!m) return id ?? "–";
  const time = new Date(Date.UTC(+m[1], +m[2] - 1, +m[3], +m[4], +m[5], +m[6], +m[7]));
  return time.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}
