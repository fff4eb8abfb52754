// The commands of the page, and the question before files on the disk are replaced.

import { describe } from "./controls.js";

const id = (name) => document.getElementById(name);

export class Commands {
  /** `send(name)` has a command carried out and resolves to the reply. */
  constructor(model, stage, send) {
    this.model = model;
    this.stage = stage;
    this.send = send;
    for (const button of id("commands").children) {
      button.addEventListener("click", () => this.carryOut(button.dataset.command, button.textContent));
    }
    const again = id("stale").querySelector("button");
    again.addEventListener("click", () => this.carryOut("recompute", "Recompute"));
    for (const button of id("differs").querySelectorAll("button")) {
      button.addEventListener("click", () => this.carryOut(button.dataset.command, button.textContent));
    }
  }

  allow(allowed) {
    for (const button of id("commands").children) button.disabled = !allowed;
  }

  /** Carry out a command, and say how it went. */
  async carryOut(name, text) {
    const { state } = this.model.live;
    const over = name === "save" && state.state !== "acquiring" && state.scan;
    if (over && !(await mayReplace("Save the present images?", state.scan, false))) return;
    const reply = await this.send(name);
    const files = name === "recompute" ? ". The files are as they were; Save replaces them" : "";
    id("command-reply").textContent = reply.ok ? `${text}: done${keptWords(reply.kept)}${files}` : describe(reply.error);
  }

  /** Settings in force that the config file says otherwise: they hold over restarts until Reset. */
  differs(tunable) {
    const { live, past } = this.model;
    const changed = live.settings?.changed ?? [];
    id("differs").hidden = Boolean(past) || !tunable || !changed.length;
    const words = id("differs").querySelector("span");
    words.textContent = changed.length === 1 ? `${changed[0]} is not as in the config file.` : `${changed.length} settings are not as in the config file.`;
    words.title = changed.join(", ");
  }

  /** A finished image does not follow the settings by itself: say so, and offer it. */
  stale(tunable) {
    const { frame } = this.stage.main;
    const { live, past } = this.model;
    const of = frame?.angle ? live.frames.get("field_direction") : frame;
    id("stale").hidden = Boolean(past) || !tunable || !live.isStale(of);
  }
}

/** Which images are as they were, because the scan was summed with other settings. */
function keptWords(kept) {
  const engines = Object.keys(kept ?? {});
  if (!engines.length) return "";
  return `. Images of ${engines.join(" and ")} keep the settings with which the scan was taken`;
}

/**
 * Ask whether the image files of a scan may be written anew: "write", "show" where the images can
 * be looked at without it (`shows`), or "" for neither.
 */
export function mayReplace(title, scan, shows) {
  const dialog = id("files");
  id("files-title").textContent = title;
  id("files-why").textContent = `Files of these images in the folder of scan ${scan} are written anew. The camera's record is not touched.`;
  id("files-show").hidden = !shows;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}
