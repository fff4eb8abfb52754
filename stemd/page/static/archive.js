// Past scans: the list with small pictures, their images in the viewer, their files to download.

import { aboutLine } from "./about.js";
import { colour, defaults, limits } from "./contrast.js";
import { defaultMap } from "./colormap.js";
import { bytes, count, scanTime, title } from "./format.js";
import { decode } from "./link.js";

/** Of images that lack positions, by what becomes of them. */
const COMPLETION = {
  outstanding: " · images are being completed",
  done: " · images completed from the record",
  failed: " · images incomplete",
  left: " · images incomplete",
};
const COVER = ["ricom", "icom", "airpi_phase", "adf", "haadf", "sum"];

/** One image of a past scan as a frame; `side` limits its longest side in pixels, 0 does not. */
export async function fetchImage(id, name, side) {
  const reply = await fetch(`api/scans/${id}/image/${encodeURIComponent(name)}?max_side=${side}`);
  if (!reply.ok) throw new Error(`${title(name)} of scan ${id} cannot be read`);
  return decode(await reply.arrayBuffer());
}

/** The scan.json of a past scan, {} where it cannot be read. */
export async function fetchDocument(id) {
  const reply = await fetch(`api/scans/${id}/scan.json`);
  return reply.ok ? reply.json() : {};
}

/** How a scan ended, and whether there is something to be read about it. */
function statusWords({ status, warnings }) {
  if (!warnings) return status;
  return `${status}, ${warnings} ${warnings === 1 ? "warning" : "warnings"}`;
}

function draw(canvas, frame) {
  const show = defaults(frame.meta, defaultMap(frame.meta));
  canvas.width = frame.w;
  canvas.height = frame.h;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(frame.w, frame.h);
  colour(frame, limits(frame, show), show, new Uint32Array(pixels.data.buffer));
  context.putImageData(pixels, 0, 0);
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

export class Archive {
  /** `open(scan)` shows a past scan, as listed, in the viewer. */
  constructor(dialog, open) {
    this.dialog = dialog;
    this.list = dialog.querySelector("ul");
    this.note = dialog.querySelector(".note");
    this.find = dialog.querySelector("input[type=search]");
    this.find.addEventListener("input", () => this.sift());
    this.scans = [];
    this.open = open;
    this.seen = new IntersectionObserver((entries) => this.reveal(entries));
  }

  async show() {
    this.dialog.showModal();
    this.note.textContent = "Reading the list …";
    await this.fill();
  }

  /** A scan is over: an open list shows it, too. */
  news() {
    if (this.dialog.open && !this.list.querySelector("details[open]")) this.fill();
  }

  async fill() {
    try {
      const reply = await fetch("api/scans?limit=200");
      if (!reply.ok) throw new Error(await reply.text());
      const { scans } = await reply.json();
      this.scans = scans;
      this.sift();
    } catch (error) {
      this.note.textContent = `The list cannot be read: ${error.message}`;
    }
  }

  /** Show those in whose sample, operator, comment and tags all words stand that are asked for. */
  sift() {
    const words = this.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.scans.filter((scan) => {
      const text = aboutLine(scan.about).toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const none = this.scans.length ? "No past scan matches these words." : "No scan has been kept yet.";
    this.note.textContent = found.length ? "" : none;
    this.list.replaceChildren(...found.map((scan) => this.card(scan)));
  }

  card(scan) {
    const item = element("li");
    const open = element("button", "cover");
    const picture = element("canvas");
    picture.width = picture.height = 1;
    const cover = COVER.find((name) => scan.images.includes(name)) ?? scan.images[0];
    open.append(picture);
    open.setAttribute("aria-label", `Open the scan of ${scanTime(scan.id)}`);
    open.disabled = !cover;
    open.addEventListener("click", () => {
      this.dialog.close();
      this.open(scan);
    });
    if (cover) {
      picture.dataset.id = scan.id;
      picture.dataset.image = cover;
      this.seen.observe(picture);
    }
    const about = element("div", "about");
    const shape = scan.shape ? `${scan.shape[0]} × ${scan.shape[1]}` : "";
    const lost = scan.missing > 0 ? ` · ${count(scan.missing)} missing` : "";
    about.append(
      element("strong", "", scanTime(scan.id)),
      element("span", `status ${scan.status}${scan.warnings ? " noted" : ""}`, statusWords(scan)),
      element("p", "", `${shape}${lost}${COMPLETION[scan.completion] ?? ""}`),
      ...(aboutLine(scan.about) ? [element("p", "", aboutLine(scan.about))] : []),
      element("p", "mono", scan.id),
    );
    const files = element("details");
    files.append(element("summary", "", scan.files.length === 1 ? "1 file" : `${scan.files.length} files`));
    for (const file of scan.files) {
      const link = element("a", "", file.name);
      link.href = `api/scans/${scan.id}/${encodeURIComponent(file.name)}`;
      link.download = "";
      const line = element("div", "file");
      line.append(link, element("span", "", bytes(file.bytes)));
      files.append(line);
    }
    about.append(files);
    item.append(open, about);
    return item;
  }

  /** Pictures are fetched when they come into sight, and once. */
  async reveal(entries) {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      this.seen.unobserve(target);
      try {
        draw(target, await fetchImage(target.dataset.id, target.dataset.image, 192));
      } catch {
        target.classList.add("broken");
      }
    }
  }
}
