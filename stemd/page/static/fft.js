// Power spectrum of (a part of) an image. Pure: runs in a worker and in tests.

/** In-place radix-2 transform of `re` and `im` (length a power of two), no scaling. */
export function fft(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i += 1) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  const { cos, sin } = twiddles(n);
  for (let half = 1; half < n; half <<= 1) {
    const stride = n / (2 * half);
    for (let start = 0; start < n; start += 2 * half) {
      for (let k = 0; k < half; k += 1) {
        const [c, s] = [cos[k * stride], sin[k * stride]];
        const [i, j] = [start + k, start + k + half];
        const r = re[j] * c - im[j] * s;
        const q = re[j] * s + im[j] * c;
        re[j] = re[i] - r;
        im[j] = im[i] - q;
        re[i] += r;
        im[i] += q;
      }
    }
  }
}

const tables = new Map();

function twiddles(n) {
  if (!tables.has(n)) {
    const cos = new Float64Array(n / 2 || 1);
    const sin = new Float64Array(n / 2 || 1);
    for (let k = 0; k < cos.length; k += 1) {
      cos[k] = Math.cos((-2 * Math.PI * k) / n);
      sin[k] = Math.sin((-2 * Math.PI * k) / n);
    }
    tables.set(n, { cos, sin });
  }
  return tables.get(n);
}

/**
 * Power spectrum |FFT|^2 of an image (w x h values, row-major) with its mean taken off and a
 * Hann window laid on, padded with zeros to a square of n = 2^m pixels, zero frequency at
 * (n/2, n/2). A pixel is 1/(n p) for an image pixel p.
 */
export function powerSpectrum(data, w, h) {
  let n = 2;
  while (n < Math.max(w, h)) n *= 2;
  let mean = 0;
  for (const value of data) mean += Number.isFinite(value) ? value : 0;
  mean /= data.length || 1;
  const hann = (i, size) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / size);
  const re = new Float64Array(n * n);
  const im = new Float64Array(n * n);
  for (let y = 0; y < h; y += 1) {
    const row = hann(y, h);
    for (let x = 0; x < w; x += 1) {
      const value = data[y * w + x];
      if (Number.isFinite(value)) re[y * n + x] = (value - mean) * row * hann(x, w);
    }
    fft(re.subarray(y * n, (y + 1) * n), im.subarray(y * n, (y + 1) * n));
  }
  const power = new Float32Array(n * n);
  const [r, i] = [new Float64Array(n), new Float64Array(n)];
  for (let x = 0; x < n; x += 1) {
    for (let y = 0; y < n; y += 1) {
      r[y] = re[y * n + x];
      i[y] = im[y * n + x];
    }
    fft(r, i);
    const column = (x + n / 2) % n;
    for (let y = 0; y < n; y += 1) {
      power[((y + n / 2) % n) * n + column] = r[y] * r[y] + i[y] * i[y];
    }
  }
  return { n, power };
}
