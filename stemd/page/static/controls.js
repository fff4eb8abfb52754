// Controls for every live setting, made from the settings document as it comes.

import { keyTitle, title, unitOf } from "./format.js";
import { RotationEstimate } from "./rotation.js";
import { TransferCurve } from "./transfer.js";
import { aboutSetting } from "./words.js";

// What a document of plain values cannot say: ranges, steps and units of the settings known today.
const HINTS = {
  "ricom.kernel_size": { min: 3, max: 255, step: 2, unit: "px", slider: true },
  "ricom.band_pass": { waves: true, names: ["from", "to"], empty: "off", fallback: [0, 64] },
  "optics.rotation_deg": { min: -180, max: 180, step: 0.5, unit: "°", slider: true, turn: 360 },
  "optics.defocus_nm": { min: -100, max: 100, step: 0.5, unit: "nm", slider: true },
  "optics.astigmatism_nm": { min: 0, max: 20, step: 0.1, unit: "nm", slider: true },
  "optics.astigmatism_deg": { min: -90, max: 90, step: 1, unit: "°", slider: true, turn: 180 },
  "optics.coma_nm": { min: 0, max: 1000, step: 10, unit: "nm", slider: true },
  "optics.coma_deg": { min: -180, max: 180, step: 1, unit: "°", slider: true, turn: 360 },
  "optics.threefold_nm": { min: 0, max: 1000, step: 10, unit: "nm", slider: true },
  "optics.threefold_deg": { min: -60, max: 60, step: 1, unit: "°", slider: true, turn: 120 },
  "optics.measured": { choices: ["off", "report", "use"] },
  "optics.center": { unit: "px", names: ["y", "x"], empty: "auto", fallback: [0, 0] },
  "optics.mask": { empty: "the camera's own; auto; [[y, x], ...]" },
  "publish.rate_hz": { min: 0.5, max: 50, step: 0.5, unit: "Hz" },
  "publish.images": { empty: "all", list: true },
  "record.results": { empty: "none", list: true, none: [] },
  "about.tags": { empty: "none", list: true, none: [] },
  "scan.flyback": { empty: "auto" },
  "scan.shape": { names: ["y", "x"] },
};
const HIDDEN = new Set(["revision", "name", "type"]);
const GROUPS = { ricom: "riCOM", airpi: "AIRPI", ssb: "SSB", direct: "Direct", optics: "Optics", about: "Sample", virtual_detector: "Detectors", scan: "Next scan" };

/** What is turned most often stands first, what holds for the next scan only last. */
const ORDER = ["ricom", "virtual_detector", "optics", "about"];
const AFTER = ["scan", "publish", "record"];
const rank = (name) => {
  const first = ORDER.indexOf(name);
  return first >= 0 ? first - ORDER.length : AFTER.indexOf(name) + 1;
};

/** An angle within half a turn of 0: 270° is −90°. */
const bounded = (value, turn) => value - turn * Math.ceil(value / turn - 0.5);

const isGroup = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** {a: {b: value}} from the path "a", "b". */
const nest = (path, value) => path.reduceRight((inner, key) => ({ [key]: inner }), value);

export class Controls {
  /** `apply(part)` sends a change, `ask(command)` a command; both resolve to the reply document. */
  constructor(root, apply, ask) {
    this.root = root;
    this.apply = apply;
    this.ask = ask;
    this.fields = new Map();
    this.layout = "";
    this.allowed = true;
    this.imageSize = 256;
    this.curve = new TransferCurve();
  }

  /** Show these settings. The controls are built again only when the keys change. */
  update(settings, allowed) {
    const layout = JSON.stringify(settings, (key, value) =>
      typeof value === "object" && value !== null && !Array.isArray(value) ? value : shapeOf(value),
    );
    if (layout !== this.layout) {
      this.layout = layout;
      this.fields.clear();
      const groups = Object.entries(settings).filter(([key, value]) => !HIDDEN.has(key) && isGroup(value));
      groups.sort(([a], [b]) => rank(a) - rank(b));
      this.root.replaceChildren(...groups.map(([key, value]) => this.group([key], value)));
    }
    this.allowed = allowed;
    this.step = settings.scan?.step_size_angstrom ?? null;
    for (const field of this.fields.values()) field.update(settings, allowed);
    const { kernel_size: n, band_pass: band } = settings.ricom ?? {};
    this.curve.show({ n, band, size: this.imageSize, step: this.step });
  }

  /** How much of the curve's unit, Å⁻¹ or px⁻¹, is one wave over the image. */
  get wave() {
    return 1 / (this.imageSize * (this.step ?? 1));
  }

  group(path, value) {
    if (!isGroup(value)) return this.row(path, value);
    if (!Object.keys(value).length) return document.createDocumentFragment();
    const box = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = GROUPS[path.join()] ?? title(path.at(-1));
    // "Detectors: detectors" says nothing new to the eye
    if (path.at(-1).startsWith("detectors")) legend.className = "unseen";
    box.append(legend);
    for (const [key, inner] of Object.entries(value)) {
      if (!HIDDEN.has(key)) box.append(this.group([...path, key], inner));
    }
    if (path.join() === "ricom") box.append(this.curve.figure);
    return box;
  }

  row(path, value) {
    const key = path.join(".");
    const hint = { unit: unitOf(path.at(-1)), ...HINTS[key] };
    const row = document.createElement("div");
    row.className = "row";
    const id = `set-${key.replaceAll(".", "-")}`;
    const name = document.createElement("label");
    name.textContent = path.at(-2)?.startsWith("detectors") ? title(path.at(-1)) : keyTitle(path.at(-1));
    name.htmlFor = id;
    const problem = document.createElement("p");
    problem.className = "problem";
    problem.id = `${id}-problem`;
    problem.setAttribute("role", "alert");
    const inputs = this.inputs(path, value, hint, id);
    const unit = document.createElement("span");
    unit.className = "unit";
    unit.textContent = hint.unit ?? { detectors: "mrad", detectors_px: "px" }[path.at(-2)] ?? "";
    row.append(name, inputs.box, unit, problem);
    const about = aboutSetting(key, path.at(-2));
    row.title = about;
    for (const input of inputs.list) {
      input.setAttribute("aria-describedby", problem.id);
      if (about) input.setAttribute("aria-description", about);
    }
    let editing = false;
    const estimate =
      key === "optics.rotation_deg" &&
      new RotationEstimate({
        ask: () => this.ask("estimate_rotation"),
        fill: (degrees) => {
          editing = true;
          inputs.write(degrees);
        },
        apply: (part) => {
          editing = false;
          return this.apply(part);
        },
      });
    if (estimate) problem.before(estimate.box);
    inputs.box.addEventListener("input", () => {
      editing = true;
      if (estimate) estimate.forget();
    });
    inputs.box.addEventListener("focusout", () => (editing = false));
    const send = async () => {
      editing = false;
      const wanted = inputs.read();
      problem.textContent = "";
      row.classList.add("waiting");
      const reply = await this.apply(nest(path, wanted));
      row.classList.remove("waiting");
      if (!reply.ok) {
        problem.textContent = describe(reply.error);
        inputs.write(inputs.last);
      }
    };
    for (const input of inputs.list) input.addEventListener("change", send);
    this.fields.set(key, {
      update: (settings, allowed) => {
        const now = path.reduce((inner, part) => inner?.[part], settings);
        inputs.last = now;
        if (hint.waves) unit.textContent = this.step ? "Å⁻¹" : "px⁻¹";
        if (!editing) inputs.write(now);
        for (const input of inputs.list) input.disabled = !allowed;
        if (estimate) estimate.update(settings.optics.flip, allowed);
      },
    });
    return row;
  }

  /** The inputs for one value: {box, list, read(), write(value)}. */
  inputs(path, value, hint, id) {
    const box = document.createElement("span");
    box.className = "inputs";
    const make = (type, label) => {
      const input = document.createElement("input");
      input.type = type;
      if (label) input.setAttribute("aria-label", `${keyTitle(path.at(-1))}, ${label}`);
      for (const part of ["min", "max", "step"]) if (hint[part] !== undefined) input[part] = hint[part];
      if (type === "number" && hint.step === undefined) input.step = "any";
      box.append(input);
      return input;
    };
    const done = (list, read, write) => {
      list[0].id = id;
      return { box, list, read, write, last: value };
    };
    if (typeof value === "boolean") {
      const input = make("checkbox");
      input.className = "switch";
      return done([input], () => input.checked, (now) => (input.checked = now === true));
    }
    if (hint.names || (Array.isArray(value) && value.length === 2 && value.every(Number.isFinite))) {
      return this.pair(make, done, hint);
    }
    if (typeof value === "number" || (value === null && hint.unit)) {
      if (!hint.slider) {
        const input = make("number");
        const read = () => (input.value === "" ? null : input.valueAsNumber);
        return done([input], read, (now) => (input.value = now ?? ""));
      }
      const slider = make("range");
      const exact = make("number", "exact value");
      slider.addEventListener("input", () => {
        exact.value = slider.value;
        if (path.join(".") === "ricom.kernel_size") this.curve.show({ n: slider.valueAsNumber });
      });
      exact.addEventListener("change", () => {
        if (hint.turn) exact.value = bounded(exact.valueAsNumber, hint.turn);
        slider.value = exact.value;
      });
      const read = () => (document.activeElement === exact ? exact : slider).valueAsNumber;
      const write = (now) => (slider.value = exact.value = now);
      return done([slider, exact], read, write);
    }
    if (hint.choices) {
      const select = document.createElement("select");
      select.append(...hint.choices.map((choice) => new Option(choice)));
      box.append(select);
      return done([select], () => select.value, (now) => (select.value = now));
    }
    const input = make("text");
    input.placeholder = hint.empty ?? "";
    if (hint.list) {
      const words = () => input.value.split(/[,;\s]+/).filter(Boolean);
      const read = () => (words().length ? words() : (hint.none ?? null));
      return done([input], read, (now) => (input.value = (now ?? []).join(", ")));
    }
    const write = (now) => {
      input.value = now === null ? "" : typeof now === "string" ? now : JSON.stringify(now);
    };
    const read = () => {
      if (input.value.trim() === "") return null;
      try {
        return JSON.parse(input.value);
      } catch {
        return input.value;
      }
    };
    return done([input], read, write);
  }

  /** Two numbers, or nothing where the hint names what nothing means ("off", "auto"). */
  pair(make, done, hint) {
    const names = hint.names ?? ["from", "to"];
    const list = [];
    let given = null;
    if (hint.empty) {
      given = make("checkbox", `set by hand instead of ${hint.empty}`);
      given.className = "switch";
      given.title = `by hand instead of ${hint.empty}`;
      list.push(given);
    }
    const [a, b] = names.map((name) => make("number", name));
    list.push(a, b);
    const none = hint.empty === "auto" ? "auto" : null;
    // people read the unit of the curve, the daemon counts waves over the image
    const unit = () => (hint.waves ? this.wave : 1);
    const read = () => {
      if (given && !given.checked) return none;
      const fallback = hint.fallback ?? [0, 0];
      // rounded: 60 waves must not become 59.99994 by way of the curve's unit
      const inside = (value) => (hint.waves ? Number((value / unit()).toPrecision(5)) : value);
      return [a, b].map((input, i) => (input.value === "" ? fallback[i] : inside(input.valueAsNumber)));
    };
    const write = (now) => {
      const set = Array.isArray(now);
      if (given) given.checked = set;
      [a, b].forEach((input, i) => {
        input.value = set ? Number((now[i] * unit()).toPrecision(6)) : "";
        input.placeholder = hint.empty ?? "";
      });
    };
    return done(list, read, write);
  }
}

/** The kind of a value: two documents of the same kinds use the same controls. */
function shapeOf(value) {
  if (Array.isArray(value)) return "list";
  return value === null || value === "auto" ? "list" : typeof value;
}

/** A refusal in one line: what is wrong and what is allowed. */
export function describe(error) {
  if (!error) return "refused";
  const { allowed } = error;
  const message = error.message ?? "refused";
  if (allowed === null || allowed === undefined) return message;
  // of a command it is what to do instead
  if (typeof allowed === "string") return `${message}; ${allowed}`;
  return `${message} (allowed: ${Array.isArray(allowed) ? allowed.join(", ") : JSON.stringify(allowed)})`;
}
