// The session of a pipeline: how far a series of scans has come, begun and ended here.

import { describe } from "./controls.js";
import { count } from "./format.js";

const id = (name) => document.getElementById(name);
const clock = (time) => new Date(time).toLocaleString([], { dateStyle: "short", timeStyle: "short" });

/** What a session document says, as [words, text, whether something is wrong]. */
export function facts(session) {
  const { plan, counts, gone, status, reason, stopping, outages } = session;
  const done = counts.complete + counts.incomplete;
  const wanted = plan.scans ? ` of ${count(plan.scans)}` : "";
  const rows = [["Scans", `${count(done)}${wanted}`]];
  if (counts.incomplete) rows.push(["With holes", count(counts.incomplete), true]);
  if (counts.aborted) rows.push(["Cut off, not counted", count(counts.aborted), true]);
  if (plan.until && status === "running") rows.push(["Until", clock(plan.until)]);
  for (const [what, since] of Object.entries(gone ?? {})) {
    rows.push([`${what[0].toUpperCase()}${what.slice(1)} away`, `since ${clock(since / 1e6)}`, true]);
  }
  if (outages?.length && status !== "running") rows.push(["Outages", count(outages.length), true]);
  rows.push(["Begun", clock(session.started)]);
  if (stopping) rows.push(["Ends", `after this scan: ${stopping}`]);
  if (status !== "running") {
    rows.push(["Over", clock(session.finished)]);
    if (reason) rows.push(["Why", reason, status !== "complete"]);
  }
  return rows;
}

export class Session {
  constructor(model, operator) {
    this.model = model;
    this.operator = operator;
    this.sure = false;
    id("session-stop").addEventListener("click", () => this.stop());
    id("session-button").addEventListener("click", () => {
      id("session-problem").textContent = "";
      id("session").showModal();
    });
    id("session-cancel").addEventListener("click", () => id("session").close());
    id("session-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.begin(event.target.elements);
    });
  }

  update() {
    const { live } = this.model;
    const { session } = live;
    const running = session?.status === "running";
    const allowed = this.operator.allowed;
    id("session-card").hidden = !session && !allowed;
    id("session-name").textContent = session ? `${session.name}${running ? "" : ", over"}` : "";
    id("session-facts").replaceChildren(
      ...(session ? facts(session) : []).flatMap(([words, text, wrong]) => {
        const [term, value] = [document.createElement("dt"), document.createElement("dd")];
        term.textContent = words;
        value.textContent = text;
        if (wrong) value.className = "warn";
        return [term, value];
      }),
    );
    id("session-stop").hidden = !running || !allowed || Boolean(session.stopping);
    id("session-button").hidden = running || !allowed;
    if (!running) this.ask(false);
  }

  /** A night's work is not ended by one click. */
  ask(sure) {
    this.sure = sure;
    id("session-stop").textContent = sure ? "Yes, end it after this scan" : "End after this scan";
  }

  async stop() {
    if (!this.sure) {
      this.ask(true);
      return;
    }
    this.ask(false);
    const reply = await this.operator.command("session", { stop: true });
    id("session-reply").textContent = reply.ok ? "" : describe(reply.error);
  }

  async begin(fields) {
    const args = { name: fields.name.value.trim(), pause_s: Number(fields.pause.value), start: fields.start.checked };
    if (fields.scans.value) args.scans = Number(fields.scans.value);
    if (fields.until.value) args.until = new Date(fields.until.value).toISOString();
    const reply = await this.operator.command("session", args);
    if (reply.ok) id("session").close();
    else id("session-problem").textContent = describe(reply.error);
  }
}
