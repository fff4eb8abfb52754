// The WebSocket: comes back by itself, and turns its messages into objects.

const MAGIC = 0x49455453; // "STEI", little-endian
const HEADER = 16;
const SILENCE_MS = 30000;
const LONGEST_WAIT_MS = 5000;

/** One binary image frame at an offset: {meta, data: Float32Array, w, h, end}. Throws on others. */
export function decode(buffer, offset = 0) {
  const view = new DataView(buffer, offset);
  if (view.byteLength < HEADER || view.getUint32(0, true) !== MAGIC || view.getUint8(4) !== 1) {
    throw new Error("not an image frame");
  }
  const metaBytes = view.getUint32(8, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, offset + HEADER, metaBytes));
  const meta = JSON.parse(text);
  const [h, w] = meta.shape;
  const start = offset + HEADER + metaBytes;
  const end = start + view.getUint32(12, true);
  return { meta, w, h, data: pixels(buffer, start, w * h, meta.code), end };
}

/** Values as floats; of 16-bit codes, `code` says what they stand for. */
function pixels(buffer, start, count, code) {
  if (!code) return new Float32Array(buffer, start, count);
  const codes = new Uint16Array(buffer, start, count);
  const data = new Float32Array(count);
  const { offset, scale } = code;
  for (let i = 0; i < count; i += 1) data[i] = offset + scale * codes[i];
  return data;
}

/** All frames of a message: thumbnails come several in one. */
export function* frames(buffer) {
  for (let offset = 0; offset < buffer.byteLength; ) {
    const { end, ...frame } = decode(buffer, offset);
    yield frame;
    offset = end;
  }
}

export class Link {
  /** `on` has text(message), image(frame) and status({open, wait}) */
  constructor(on) {
    this.on = on;
    this.tries = 0;
    this.heard = 0;
    this.timer = 0;
    this.open();
    setInterval(() => this.checkSilence(), 2000);
    window.addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.now();
    });
  }

  open() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.tries = 0;
      this.heard = performance.now();
      this.on.status({ open: true });
    };
    socket.onmessage = (event) => {
      this.heard = performance.now();
      if (typeof event.data === "string") this.on.text(JSON.parse(event.data));
      else for (const frame of frames(event.data)) this.on.image(frame);
    };
    socket.onclose = () => {
      if (this.socket === socket) this.again();
    };
    this.socket = socket;
  }

  /** Try again after a wait that doubles, with some disorder so that viewers do not come at once. */
  again() {
    const wait = Math.min(LONGEST_WAIT_MS, 400 * 2 ** this.tries) * (0.75 + 0.5 * Math.random());
    this.tries += 1;
    this.on.status({ open: false, wait });
    this.timer = setTimeout(() => this.open(), wait);
  }

  /** Try at once if there is no connection. */
  now() {
    if (this.socket.readyState === WebSocket.CLOSED) {
      this.tries = 0;
      this.open();
    }
  }

  /** The daemon says something every few seconds; a dead network says nothing at all. */
  checkSilence() {
    const live = this.socket.readyState === WebSocket.OPEN;
    if (live && performance.now() - this.heard > SILENCE_MS) {
      const dead = this.socket;
      dead.onclose = null;
      dead.close();
      this.again();
    }
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
