// Where people look: one zoom and one centre, shared by all images that move in lock-step.

const MAX_ZOOM = 200;

export class Viewport {
  /** Centre as a fraction of the image (0..1), zoom 1 shows the whole image. */
  constructor() {
    this.x = 0.5;
    this.y = 0.5;
    this.zoom = 1;
    this.listeners = new Set();
  }

  /** Keep the centre on the image and tell everybody. */
  set(x, y, zoom) {
    this.zoom = Math.min(MAX_ZOOM, Math.max(1, zoom));
    const half = 0.5 / this.zoom;
    const keep = (value) => Math.min(1 - half, Math.max(half, value));
    this.x = keep(x);
    this.y = keep(y);
    for (const listener of this.listeners) listener();
  }

  fit() {
    this.set(0.5, 0.5, 1);
  }

  /** Zoom by a factor so that the image fraction (x, y) stays where it is. */
  zoomAt(x, y, factor) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, this.zoom * factor));
    const ratio = this.zoom / zoom;
    this.set(x + (this.x - x) * ratio, y + (this.y - y) * ratio, zoom);
  }

  /** Move the centre by fractions of the image. */
  pan(dx, dy) {
    this.set(this.x + dx, this.y + dy, this.zoom);
  }
}

/** How an image of w x h pixels stands in a box of W x H: scale and the place of pixel (0, 0). */
export function transform(viewport, w, h, W, H) {
  const scale = viewport.zoom * Math.min(W / w, H / h);
  return { scale, left: W / 2 - viewport.x * w * scale, top: H / 2 - viewport.y * h * scale };
}
