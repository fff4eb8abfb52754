// Spectra are computed beside the page's own thread; one at a time, the newest request last.

import { powerSpectrum } from "./fft.js";

self.onmessage = ({ data: { data, w, h, about } }) => {
  const { n, power } = powerSpectrum(data, w, h);
  self.postMessage({ n, power, about }, [power.buffer]);
};
