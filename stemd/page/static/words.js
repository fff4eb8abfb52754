// What images and settings are, in one line each, for whoever sees them for the first time.

import { title } from "./format.js";

const IMAGES = {
  ricom: "Projected potential, live: heavy atom columns are bright",
  icom: "Projected potential of the whole scan, made at its end",
  field: "Electric field: colour is its direction, brightness its strength",
  field_magnitude: "Strength of the electric field: how far patterns are deflected",
  field_direction: "Direction of the electric field; see the colour bar",
  com_y: "How far each pattern's centre of mass lies below the centre",
  com_x: "How far each pattern's centre of mass lies right of the centre",
  sum: "All counts of each pattern",
  pattern: "The newest diffraction pattern; drag the rings to change detectors",
  pacbed: "Mean of all diffraction patterns; drag the rings to change detectors",
};
const FAMILIES = [
  [/_restored$/, "With less noise, by a neural network"],
  [/_corrected$/, "The image with every pattern at the place where the beam really was"],
  [/airpi.*_weight$|_weight$/, "How many electrons the phase is based on at each place"],
  [/direct.*_phase$/, "Phase of the specimen from the bright field, through the measured lens"],
  [/_uncertainty$/, "How far the image may be off: its standard error"],
  [/ssb.*_phase$/, "Phase of the specimen by ptychography (single side-band)"],
  [/_phase$/, "Phase of the specimen, by a neural network"],
];

/** One line about an image; `rings` are the virtual detectors as {name: [inner, outer]} in mrad. */
export function aboutImage(name, rings = {}) {
  if (IMAGES[name]) return IMAGES[name];
  const ring = rings[name];
  if (ring) return `Electrons scattered by ${ring[0]} to ${ring[1]} mrad`;
  return FAMILIES.find(([pattern]) => pattern.test(name))?.[1] ?? "";
}

const SETTINGS = {
  "optics.energy_ev": "Energy of the beam's electrons",
  "optics.convergence_semi_angle_mrad": "Half the opening angle of the probe's cone: the radius of the bright disc",
  "optics.pixel_size_mrad": "Angle that one detector pixel takes",
  "optics.rotation_deg": "Angle from the detector's axes to the scan's; Estimate finds it in the data",
  "optics.flip": "The detector sees the pattern mirrored",
  "optics.center": "Middle of the pattern on the detector; auto finds it in the first patterns",
  "optics.mask": "Detector pixels that do not count; auto finds broken ones in the first patterns of the next scan",
  "optics.defocus_nm": "How far the beam's focus is from the specimen; underfocus is positive",
  "optics.astigmatism_nm": "Two-fold astigmatism: how far apart the two focal lines are from round",
  "optics.astigmatism_deg": "Direction of the two-fold astigmatism in the scan",
  "optics.coma_nm": "Axial coma of the lens, B2",
  "optics.threefold_nm": "Three-fold astigmatism of the lens, A2",
  "optics.cs_mm": "Spherical aberration of the lens",
  "optics.measured": "What is done with the optics that the data show: nothing, tell them, or use them",
  "scan.shape": "Probe positions: lines, and positions a line",
  "scan.flyback": "Frames that the camera sends while the beam goes back to the next line",
  "scan.leading": "Frames that the camera sends before the first position",
  "scan.serpentine": "Every other line is scanned backwards",
  "scan.repeats": "Fast frames of the same place that are aligned and added up",
  "scan.step_size_angstrom": "Distance from one probe position to the next",
  "scan.dwell_time_us": "How long the beam rests at a position",
  "publish.rate_hz": "New images a second while a scan runs",
  "publish.preview": "Small PNG pictures over MQTT, for dashboards",
  "publish.images": "Which images are published, by name, with commas between; empty: all",
  "record.raw": "Keep every pattern as the camera sent it, so that the scan can be replayed with other settings",
  "record.results": "Kinds of files in which the finished images are kept",
  "about.sample": "What is on the grid; past scans are found by it, by operator, comment and tags",
  "about.operator": "Who is at the microscope",
  "about.comment": "Anything that is worth finding again",
  "about.tags": "Words to sort scans by, with commas between",
  "ricom.kernel_size": "Size of the neighbourhood of a pattern: a small one shows atoms, a large one slow changes too",
  "ricom.band_pass": "Lowest and highest spatial frequency that is kept, in the unit of the curve below",
};

/** One line about a setting, "" for one that says enough itself. */
export function aboutSetting(key, group) {
  if (group?.startsWith("detectors")) return "Inner and outer edge of the ring that this detector counts in";
  return SETTINGS[key] ?? "";
}

const entry = (term, text) => {
  const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
  dt.textContent = term;
  dd.textContent = text;
  return [dt, dd];
};

/** Fill a list with what each of these images is. */
export function glossary(root, names, rings) {
  const known = names.map((name) => [title(name), aboutImage(name, rings)]).filter(([, text]) => text);
  root.replaceChildren(...known.flatMap(([term, text]) => entry(term, text)));
}
