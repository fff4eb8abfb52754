// The config file as text: read, checked by the daemon, saved, put in force. With the token only.

import { describe } from "./controls.js";

const RELOAD_MS = 180000; // kernels of a new engine are compiled meanwhile
const CHECK_MS = 30000;
const id = (name) => document.getElementById(name);

export class ConfigFile {
  constructor(model, operator) {
    this.model = model;
    this.operator = operator;
    this.base = null; // the file as it was read: {text, digest, ...}
    this.area = id("config-text");
    this.area.addEventListener("input", () => this.show());
    for (const [button, action] of Object.entries({
      "config-button": () => this.open(),
      "config-discard": () => this.discard(),
      "config-check": () => this.check(),
      "config-save": () => this.save(),
      "config-reload": () => this.reload(),
    })) {
      id(button).addEventListener("click", action);
    }
  }

  /** The button is there for whoever may use it. */
  update() {
    id("config-button").hidden = !(this.operator.allowed && this.model.hello?.config);
  }

  get changed() {
    return this.base !== null && this.area.value !== this.base.text;
  }

  /** Which buttons have a meaning now. */
  show(busy = false) {
    id("config-discard").hidden = !this.changed;
    id("config-check").disabled = busy || !this.base;
    id("config-save").disabled = busy || !this.changed || Boolean(this.base?.not_writable);
    id("config-reload").disabled = busy || !this.base || this.changed;
  }

  say(text, wrong = false) {
    id("config-words").textContent = text;
    id("config-words").classList.toggle("problem", wrong);
  }

  ask(command, args = {}, patience = CHECK_MS) {
    return this.operator.request("config", { command, args }, "daemon", patience);
  }

  /** Show the file; a text that was not saved is kept. */
  async open() {
    const kept = this.changed;
    this.list([]);
    this.say(kept ? "" : "Reading the file …");
    this.show(true);
    id("config").showModal();
    const reply = await this.ask("read");
    if (!reply.ok) {
      this.base = null;
      this.area.disabled = true;
      this.say(describe(reply.error), true);
      this.show();
      return;
    }
    this.area.disabled = false;
    id("config-path").textContent = reply.path;
    const { not_writable: readOnly } = reply;
    id("config-place").textContent = readOnly ? `Only to look at: ${readOnly.message}. ${readOnly.remedy}.` : "";
    if (!kept) {
      this.take(reply);
      return;
    }
    const same = reply.digest === this.base.digest;
    this.say(same ? "Your text; it is not saved yet." : "Your text. The file has been changed meanwhile.", !same);
    this.newer = same ? null : reply;
    this.show();
  }

  take(reply) {
    this.area.value = reply.text;
    this.base = { ...reply, text: this.area.value };
    this.newer = null;
    this.area.scrollTop = 0;
    this.say("");
    this.list([]);
    this.show();
  }

  discard() {
    this.take(this.newer ?? this.base);
  }

  /** Have the daemon check the text; returns its reply, null where it has errors. */
  async check() {
    this.say("Checking …");
    this.show(true);
    const reply = await this.ask("check", { text: this.area.value });
    this.show();
    if (!reply.ok) {
      this.say(describe(reply.error), true);
      return null;
    }
    const { problems, problems_total: total, doubts } = reply;
    this.list([
      ...problems.map((problem) => ({ ...problem, level: "error" })),
      ...doubts.map((message) => ({ message, level: "warning" })),
    ]);
    if (total) {
      this.say(total === 1 ? "One error." : `${total} errors${total > problems.length ? `, the first ${problems.length}` : ""}.`, true);
      return null;
    }
    this.say(`No errors${doubts.length ? `, ${doubts.length === 1 ? "one warning" : `${doubts.length} warnings`}` : ""}. ${this.effects(reply)}`);
    return reply;
  }

  async save() {
    const checked = await this.check();
    if (!checked) return;
    const { value: text } = this.area;
    this.show(true);
    const reply = await this.ask("save", { text, digest: this.base.digest });
    if (reply.ok) {
      this.base = { ...this.base, text, digest: reply.digest };
      this.say(`Saved. The text before is kept as ${reply.kept_as}. ${this.effects(checked)}`);
    } else this.say(describe(reply.error), true);
    this.show();
  }

  async reload() {
    this.say("Reading the file again; new kernels are compiled …");
    this.show(true);
    const reply = await this.ask("reload", {}, RELOAD_MS);
    if (reply.ok) this.say(`In force.${this.overruled()}`);
    else this.say(describe(reply.error), true);
    this.show();
  }

  /** What a reload does, in words. */
  effects({ restarts, starts, stops, needs_restart: fixed }) {
    if (fixed.length) {
      const tables = fixed.map((name) => (name === "sinks" ? "[[sink]]" : `[${name}]`)).join(", ");
      return `${tables} cannot change while stemd runs: restart stemd.`;
    }
    const scans = [...restarts, ...stops].filter((name) => this.model.pipelines.get(name)?.state.state === "acquiring");
    const words = [
      restarts.length && `restarts ${restarts.join(", ")}`,
      starts.length && `starts ${starts.join(", ")}`,
      stops.length && `ends ${stops.join(", ")}`,
      scans.length && `ends the running scan of ${scans.join(", ")}`,
    ].filter(Boolean);
    return words.length ? `Reload ${words.join(", ")}.` : "No pipeline changes.";
  }

  /** Settings that were changed live hold over the file's. */
  overruled() {
    const keys = [...this.model.pipelines].flatMap(([name, { settings }]) =>
      (settings?.changed ?? []).map((key) => `${name} ${key}`),
    );
    return keys.length ? ` These were changed live and stay as they are until Reset: ${keys.join(", ")}.` : "";
  }

  list(entries) {
    id("config-problems").replaceChildren(
      ...entries.map(({ level, line, key, value, message, remedy }) => {
        const item = document.createElement("li");
        item.dataset.level = level;
        if (line) {
          const place = document.createElement("button");
          place.type = "button";
          place.className = "small";
          place.textContent = `Line ${line}`;
          place.addEventListener("click", () => this.jump(line));
          item.append(place, " ");
        } else if (level === "warning") item.append("Warning: ");
        const what = document.createElement("span");
        what.textContent = [key && (value ? `${key} = ${value}` : key), message].filter(Boolean).join(": ");
        item.append(what);
        if (remedy) {
          const help = document.createElement("em");
          help.textContent = remedy;
          item.append(help);
        }
        return item;
      }),
    );
  }

  /** Select a line, and bring it into view. */
  jump(line) {
    const lines = this.area.value.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    this.area.focus();
    this.area.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
    this.area.scrollTop = (this.area.scrollHeight / lines.length) * Math.max(0, line - 4);
  }
}
