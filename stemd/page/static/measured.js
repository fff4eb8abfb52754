// What the data say of the optics, beside what was told, and what to do about it.

import { describe } from "./controls.js";
import { number, scanTime } from "./format.js";

// name in the document, what people call it, unit
const ROWS = [
  ["defocus_nm", "Defocus", "nm"],
  ["astigmatism_nm", "Astigmatism", "nm"],
  ["coma_nm", "Coma", "nm"],
  ["threefold_nm", "Three-fold astigmatism", "nm"],
  ["rotation_deg", "Rotation", "°"],
  ["flip", "Flip", ""],
  ["convergence_semi_angle_mrad", "Semi-angle", "mrad"],
  ["center", "Centre", "px"],
  ["ellipticity_percent", "Disc longer than wide by", "%"],
  ["descan_px", "Descan", "px"],
  ["drift_nm_per_s", "Drift", "nm/s"],
  ["dose_e_per_square_angstrom", "Dose", "e/Å²"],
];
const ALWAYS = new Set(["defocus_nm", "astigmatism_nm", "rotation_deg"]);

/** A value as people read it: a vector by its parts, a matrix by its largest. */
function words(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (!Array.isArray(value)) return number(value, digits);
  if (Array.isArray(value[0])) return number(Math.max(...value.flat().map(Math.abs)), digits);
  return value.map((part) => number(part, digits)).join(", ");
}

/** The most telling sentence: what is wrong and what to do. */
export function advice(optics) {
  if (!optics) return "";
  const { defocus_nm: focus, astigmatism_nm: round } = optics;
  if (!focus) {
    return optics.not_measured ? `Focus and astigmatism of this scan: not measured, ${optics.not_measured}.` : "";
  }
  const parts = [];
  if (focus.agrees === false) {
    const off = focus.value - focus.told;
    const side = off > 0 ? "underfocus" : "overfocus";
    parts.push(`The beam is ${number(Math.abs(off), 3)} nm out of focus (${side})`);
  }
  if (round?.agrees === false) {
    parts.push(`the astigmatism is ${number(round.value, 3)} nm at ${number(round.angle_deg, 3)}°`);
  }
  if (optics.rotation_deg?.agrees === false || optics.flip?.agrees === false) {
    parts.push(`the camera is turned by ${number(optics.rotation_deg.value, 3)}°${optics.flip?.value ? ", with flip" : ""}`);
  }
  const soFar = optics.preliminary ? optics.lines === 1 ? "From the first line: " : `From the first ${optics.lines} lines: ` : "";
  if (!parts.length) return optics.agrees ? `${soFar}Focus, stigmators and rotation agree with the data.` : "";
  const text = parts.join("; ");
  if (soFar) return `${soFar}${text}. The scan goes on.`;
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}. Correct it at the microscope, or press “Use measured” to have the images made with it.`;
}

export class MeasuredOptics {
  /** `use(optics)` puts these settings in force and makes the last images again. */
  constructor(root, { use }) {
    this.root = root;
    this.advice = root.querySelector("p");
    this.table = root.querySelector("tbody");
    this.button = root.querySelector("button");
    this.reply = root.querySelector("output");
    this.button.addEventListener("click", async () => {
      this.reply.textContent = "Making the images again …";
      const reply = await use(this.usable);
      this.reply.textContent = reply.ok ? "Done." : describe(reply.error);
    });
  }

  /** `settings` are those in force; `state` tells of which scan the images on the screen are. */
  update(optics, settings, allowed, state = {}) {
    const told = settings.optics;
    this.root.hidden = !optics;
    if (!optics) return;
    const older = Boolean(state.scan) && optics.scan !== state.scan;
    this.root.classList.toggle("older", older);
    if (older) {
      this.showOlder(optics, state);
      return;
    }
    this.table.replaceChildren(...ROWS.filter(([key]) => optics[key] || ALWAYS.has(key)).map((row) => line(row, optics)));
    // what is already in force needs no button
    const open = Object.entries(optics.usable ?? {}).filter(([key, value]) => told?.[key] !== value);
    this.usable = Object.fromEntries(open);
    // while the scan goes on there are no last images to be made again
    this.button.hidden = !open.length || optics.preliminary;
    this.button.disabled = !allowed;
    if (!open.length) this.reply.textContent = "";
    const taken = !open.length && Object.keys(optics.usable ?? {}).length > 0;
    this.root.classList.toggle("warn", optics.agrees === false && !taken);
    this.advice.textContent = taken ? "The measured optics are in force: images are made with them." : advice(optics);
  }

  /** What another scan had: it is no advice for the scan on the screen, and no button uses it. */
  showOlder(optics, { state }) {
    const follows = ["acquiring", "finishing"].includes(state);
    const now = follows ? "This scan is not measured yet." : "This scan was not measured.";
    this.advice.textContent = `${now} Below: the scan of ${scanTime(optics.scan)}.`;
    this.table.replaceChildren(...ROWS.filter(([key]) => optics[key]).map((row) => line(row, optics)));
    this.usable = {};
    this.button.hidden = true;
    this.reply.textContent = "";
    this.root.classList.remove("warn");
  }
}

function line([key, name, unit], optics) {
  const row = document.createElement("tr");
  const found = optics[key];
  const cell = (text) => {
    const made = document.createElement("td");
    made.textContent = text;
    return made;
  };
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = unit ? `${name}, ${unit}` : name;
  if (!found) {
    row.append(head, cell("–"), cell("not clear"));
    return row;
  }
  const turned = found.angle_deg === undefined ? "" : ` at ${number(found.angle_deg, 3)}°`;
  const error = found.sigma ? ` ± ${number(found.sigma, 2)}` : "";
  const told = found.told === null || found.told === undefined ? "–" : words(found.told);
  row.classList.toggle("off", found.agrees === false);
  row.append(head, cell(told), cell(`${words(found.value)}${error}${turned}`));
  return row;
}
