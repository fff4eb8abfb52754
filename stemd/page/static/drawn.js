// Telling the daemon what has been drawn, so that newer images may come.

/** The daemon sends so many of one image before it is told; it is told of all of them at once. */
const AHEAD = 2;
/** The longest that an image which no other follows is kept back for, in ms. */
const WAIT_MS = 120;

export class Drawn {
  /** `tell(pipeline, names)` sends; a name stands there once for each of its images. */
  constructor(tell) {
    this.tell = tell;
    this.fresh = [];
    this.told = new Map();
    this.timer = 0;
  }

  /** An image has come; it will be painted, or left out for a newer one. */
  came(pipeline, name) {
    this.fresh.push([pipeline, name]);
  }

  /** What has come is on the screen. Every message costs the daemon's scan a little. */
  painted() {
    let full = false;
    for (const [pipeline, name] of this.fresh) {
      if (!this.told.has(pipeline)) this.told.set(pipeline, []);
      const names = this.told.get(pipeline);
      names.push(name);
      full ||= names.filter((other) => other === name).length >= AHEAD;
    }
    this.fresh = [];
    if (full) this.now();
    else if (this.told.size && !this.timer) this.timer = setTimeout(() => this.now(), WAIT_MS);
  }

  now() {
    for (const [pipeline, names] of this.told) this.tell(pipeline, names);
    this.forgetTold();
  }

  /** A new connection knows of nothing. */
  forget() {
    this.fresh = [];
    this.forgetTold();
  }

  forgetTold() {
    this.told.clear();
    clearTimeout(this.timer);
    this.timer = 0;
  }
}
