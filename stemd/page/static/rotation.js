// The button beside the rotation: asks for an estimate, fills it in, and applies it when confirmed.

const sureness = (confidence) =>
  confidence >= 0.5 ? "clear" : "weak";

export class RotationEstimate {
  /**
   * `ask()` resolves to the daemon's reply, `fill(degrees)` shows a value without sending it,
   * `apply(part)` sends a settings change and resolves to the reply.
   */
  constructor({ ask, fill, apply }) {
    this.ask = ask;
    this.fill = fill;
    this.apply = apply;
    this.box = document.createElement("div");
    this.box.className = "estimate";
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.title = "The rotation at which the centre-of-mass field has the least curl";
    this.button.addEventListener("click", () => (this.found ? this.confirm() : this.estimate()));
    this.words = document.createElement("span");
    this.words.setAttribute("role", "status");
    this.box.append(this.button, this.words);
    this.forget();
  }

  /** Offer a new estimate; what was found is no longer on the screen. */
  forget(words = "") {
    this.found = null;
    this.button.textContent = "Estimate";
    this.button.classList.remove("primary");
    this.words.textContent = words;
  }

  /** Settings have come: `flip` is the present one. */
  update(flip, allowed) {
    this.flip = flip;
    this.button.disabled = !allowed;
  }

  async estimate() {
    this.button.disabled = true;
    const reply = await this.ask();
    this.button.disabled = false;
    if (!reply.ok) {
      this.forget(reply.error?.message ?? "refused");
      return;
    }
    if (!reply.determined) {
      this.forget("not clear in these data: the setting stays");
      return;
    }
    this.found = { rotation_deg: reply.rotation_deg, flip: reply.flip };
    this.fill(reply.rotation_deg);
    const angle = `${reply.rotation_deg}°`.replace("-", "−");
    const hand = reply.flip === this.flip ? "" : reply.flip ? ", with flip" : ", without flip";
    const percent = Math.round(100 * reply.confidence);
    this.words.textContent = `${angle}${hand}: ${sureness(reply.confidence)} (${percent} %)`;
    this.button.textContent = "Apply";
    this.button.classList.add("primary");
  }

  async confirm() {
    const reply = await this.apply({ optics: this.found });
    this.forget(reply.ok ? "" : (reply.error?.message ?? "refused"));
  }
}
