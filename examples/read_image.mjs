// An image of stemd in JavaScript: what it is, and its pixels as a Float32Array, row by row.
//
//     mosquitto_sub -t stemd/titan/merlin/image/ricom/last -C 1 -N | node examples/read_image.mjs
//
// With the package mqtt, in Node.js or a browser (a broker with websockets):
//     client.on("message", (topic, payload) => { const { about, pixels } = readImage(payload); });

/** Reads the TIFF that stemd sends: little-endian, float32, one page, one strip. */
export function readImage(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== 0x002a4949) throw new Error("not an image of stemd");
  const first = view.getUint32(4, true);
  const tags = new Map();
  for (let n = 0; n < view.getUint16(first, true); n++) {
    const at = first + 2 + 12 * n;
    const short = view.getUint16(at + 2, true) === 3;
    const value = short ? view.getUint16(at + 8, true) : view.getUint32(at + 8, true);
    tags.set(view.getUint16(at, true), { count: view.getUint32(at + 4, true), value });
  }
  const { count, value } = tags.get(270); // ImageDescription, with a zero byte at its end
  const text = new TextDecoder().decode(bytes.subarray(value, value + count - 1));
  const width = tags.get(256).value;
  const height = tags.get(257).value;
  const start = tags.get(273).value;
  const pixels = new Float32Array(bytes.slice(start, start + 4 * width * height).buffer);
  return { about: JSON.parse(text), width, height, pixels };
}

async function main() {
  const parts = [];
  for await (const part of process.stdin) parts.push(part);
  const { about, width, height, pixels } = readImage(new Uint8Array(Buffer.concat(parts)));
  let sum = 0;
  for (const value of pixels) sum += value;
  const mean = sum / pixels.length;
  console.log(JSON.stringify({ name: about.name, units: about.units, width, height, mean }));
}

if (typeof process !== "undefined" && process.argv[1]?.endsWith("read_image.mjs")) await main();
