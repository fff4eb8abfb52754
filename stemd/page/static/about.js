// What a scan is of, for people: sample, operator, comment, tags; and its dose.

import { describe } from "./controls.js";
import { number } from "./format.js";

const id = (name) => document.getElementById(name);
const FIELDS = ["sample", "operator", "comment", "tags"];

/** What a scan is said to be of, in one line. */
export function aboutLine(about) {
  const { sample, comment, operator, tags } = about ?? {};
  const words = [sample, comment, operator].filter(Boolean);
  return [...words, ...(tags ?? []).map((tag) => `#${tag}`)].join(" · ");
}

export class About {
  /** `operator` sends; `changed()` is called when words of a past scan have changed. */
  constructor(model, operator, changed) {
    this.model = model;
    this.operator = operator;
    this.changed = changed;
    this.form = id("about-form");
    this.past = null; // the past scan that the dialog is about
    id("about-button").addEventListener("click", () => this.ask());
    id("about-cancel").addEventListener("click", () => id("about").close());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.save();
    });
  }

  /** Of the past scan on the screen, or as in force. */
  get about() {
    const { past, live } = this.model;
    return (past ? past.scan.about : live.settings?.about) ?? {};
  }

  update() {
    id("scan-dose").textContent = this.dose;
    id("scan-about").textContent = aboutLine(this.about) || "–";
    id("about-button").hidden = !this.operator.allowed;
  }

  /** Of the scan on the screen; it is measured at the scan's end. */
  get dose() {
    const { past, live } = this.model;
    const { scan, state } = live.state;
    const optics = past ? past.optics : live.optics?.scan === scan ? live.optics : null;
    const dose = optics?.dose_e_per_square_angstrom?.value;
    if (dose) return `${number(dose, 3)} e/Å²`;
    if (past) return "not measured";
    if (!scan) return "–";
    return ["acquiring", "finishing"].includes(state) ? "after the scan" : "not measured";
  }

  /** The last scan has kept what was in force at its end, and is described only if asked for. */
  get over() {
    const { state } = this.model.live;
    return !this.past && ["waiting", "fault"].includes(state.state) && Boolean(state.scan);
  }

  ask() {
    this.past = this.model.past;
    const follow = this.over ? "Of the scans that follow." : "Of the running scan, and of those that follow.";
    id("about-why").textContent = this.past
      ? "It stands in the scan's scan.json, and the scan is found by it."
      : follow;
    id("about-last").hidden = !this.over;
    this.form.elements.last.checked = false;
    for (const key of FIELDS) {
      const value = this.about[key] ?? "";
      this.form.elements[key].value = Array.isArray(value) ? value.join(", ") : value;
    }
    id("about-problem").textContent = "";
    id("about").showModal();
  }

  async save() {
    const words = Object.fromEntries(FIELDS.map((key) => [key, this.form.elements[key].value.trim()]));
    const about = { ...words, tags: words.tags.split(/[,;]+/).map((tag) => tag.trim()).filter(Boolean) };
    const reply = await this.send(about);
    if (!reply.ok) {
      id("about-problem").textContent = describe(reply.error);
      return;
    }
    id("about").close();
    this.changed();
  }

  async send(about) {
    if (this.past) {
      const { scan } = this.past;
      const command = { command: "describe", args: { scan: scan.id, ...about } };
      const reply = await this.operator.request("command", command, scan.pipeline);
      if (reply.ok) scan.about = reply.about ?? about;
      return reply;
    }
    const reply = await this.operator.settings({ about });
    if (!reply.ok || !this.form.elements.last.checked) return reply;
    return this.operator.command("describe", about);
  }
}
