// What was noticed about the scan on the screen, beside its image: the most telling line, and the rest.

/** Kinds that tell of the optics, which have a panel of their own: after what tells of the data. */
const OPTICS = /lens|optics|descan|turned|center/;

const element = (tag, text) => {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
};

/** Warnings and errors, the most telling first. */
export function ranked(notices) {
  const rank = ({ level, kind }) => (level === "error" ? 0 : 2) + (OPTICS.test(kind ?? "") ? 1 : 0);
  return (notices ?? []).filter(({ level }) => level !== "info").sort((a, b) => rank(a) - rank(b));
}

export class Notices {
  constructor(root) {
    this.root = root;
    this.list = root.querySelector("ul");
    this.known = "";
    this.held = false;
    this.waiting = null;
    // a line that appears moves the image: not under a hand that drags a ring on it
    addEventListener("pointerdown", () => (this.held = true), true);
    for (const end of ["pointerup", "pointercancel"]) {
      addEventListener(end, () => setTimeout(() => this.release()), true); // after who dragged
    }
  }

  release() {
    this.held = false;
    if (this.waiting) this.update(this.waiting);
  }

  /** Show those of the scan on the screen: a past one's stand in its scan.json. */
  update(model) {
    this.waiting = this.held ? model : null;
    if (this.held) return;
    const { past, live } = model;
    const own = live.state.scan ? live.state.notices : live.keptNotices;
    const shown = ranked(past ? past.notices : own);
    const known = JSON.stringify([past?.scan.id ?? live.state.scan, shown]);
    if (known === this.known) return;
    this.known = known;
    this.root.hidden = !shown.length;
    this.root.open = false;
    const [first, ...others] = shown;
    if (!first) return;
    this.root.classList.toggle("serious", first.level === "error");
    this.root.classList.toggle("more", others.length > 0);
    this.root.querySelector("strong").textContent = sentence(first.text);
    this.root.querySelector("span").textContent = sentence(first.remedy ?? "");
    this.root.querySelector("small").textContent = others.length ? `and ${others.length} more` : "";
    this.list.replaceChildren(
      ...others.map(({ text, remedy }) => {
        const item = element("li", sentence(text));
        if (remedy) item.append(" ", element("span", sentence(remedy)));
        return item;
      }),
    );
  }
}

/** With a point at its end, so that the remedy stands apart. */
const sentence = (text) => (text && !/[.!?]$/.test(text) ? `${text}.` : text);
