// What lies between raw data and image: sampled lines, the coils' noise, their sensitivities.

import { numbers, sessionAddress } from "./api.js";
import { ANGLE, SIZE, canvasOf, coloured } from "./colours.js";
import { drawn, element, plural } from "./text.js";

const LINES = [
  ["#26303a", "left out"],
  ["#74b9ee", "image"],
  ["#8a6a2a", "calibration only"],
  ["#f3b64e", "image and calibration"],
];
const COLUMNS = 8;

export class Observations {
  constructor() {
    this.figures = { sampling: drawSampling, noise: drawNoise, coils: drawCoils };
    for (const input of document.querySelectorAll("#coils input")) {
      input.addEventListener("change", () => this.maps && drawCoils(document.getElementById("coils"), this.maps));
    }
    this.clear();
  }

  clear() {
    this.files = {};
    this.maps = null;
    for (const what of Object.keys(this.figures)) document.getElementById(what).hidden = true;
  }

  /**
   * Fetch and draw what is new.
   *
   * @param {Record<string, string>} there names of the files there are.
   * @param {boolean} hasImage coil maps are cut to the object once there is an image of it.
   */
  async show(session, there, hasImage) {
    const files = { ...there, ...(there.coils && { coils: `${there.coils} ${hasImage}` }) };
    for (const [what, draw] of Object.entries(this.figures)) {
      if (!files[what] || files[what] === this.files[what]) continue;
      this.files = { ...this.files, [what]: files[what] };
      const mine = this.files;
      const found = await numbers(`${sessionAddress(session)}/observations/${what}`).catch(() => null);
      // Another session was chosen meanwhile: its files object is another one without this name.
      if (!found || this.files[what] !== mine[what]) continue;
      if (what === "coils") this.maps = found;
      const figure = document.getElementById(what);
      figure.hidden = false;
      draw(figure, found);
    }
  }
}

function caption(figure, text) {
  figure.querySelector("figcaption p").textContent = text;
  figure.querySelector("canvas").setAttribute("aria-label", text);
}

function drawSampling(figure, { shape: [n2, n1], values }) {
  const imaging = values.reduce((n, kind) => n + (kind & 1), 0);
  const calibration = values.reduce((n, kind) => n + ((kind >> 1) & 1), 0);
  const parts = [plural(imaging, "line") + ` of ${n1 * n2}`];
  if (imaging) parts.push(`R = ${((n1 * n2) / imaging).toFixed(2)}`);
  if (calibration) parts.push(`${calibration} for calibration`);
  caption(figure, parts.join(", ") + (n2 > 1 ? "; k1 to the right, k2 down" : "; k1 to the right"));
  const canvas = figure.querySelector("canvas");
  // One set of lines is drawn as strokes, so that the spaces between them can be seen.
  const height = n2 > 1 ? n2 : Math.max(8, Math.round(n1 / 4));
  canvas.width = n1;
  canvas.height = height;
  const context = canvas.getContext("2d");
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < n1; x++) {
      context.fillStyle = LINES[values[(n2 > 1 ? y : 0) * n1 + x] & 3][0];
      context.fillRect(x, y, 1, 1);
    }
  }
  const there = LINES.filter((_, kind) => values.includes(kind));
  figure.querySelector(".legend").replaceChildren(...there.map(([colour, text]) => element("li", {}, swatch(colour), text)));
}

function swatch(colour) {
  return drawn("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, drawn("rect", { width: "10", height: "10", rx: "2", fill: colour }));
}

function drawNoise(figure, { shape: [n], values }) {
  const std = Array.from({ length: n }, (_, i) => Math.sqrt(values[i * n + i]));
  const correlation = values.map((value, i) => value / (std[Math.floor(i / n)] * std[i % n]));
  const others = correlation.filter((_, i) => Math.floor(i / n) !== i % n);
  const most = others.reduce((a, b) => Math.max(a, b), 0);
  const sorted = [...std].sort((a, b) => a - b);
  const median = sorted[Math.floor(n / 2)] || 1;
  caption(figure, `${plural(n, "coil")}; correlation between two coils at most ${most.toFixed(2)}`);
  const [matrix, levels] = figure.querySelectorAll("canvas");
  matrix.width = matrix.height = n;
  matrix.getContext("2d").putImageData(coloured(correlation, n, n, 0, 1, SIZE), 0, 0);
  const relative = std.map((value) => value / median);
  levels.setAttribute("aria-label", `noise level of the coils relative to the median coil: ${relative.map((r) => r.toFixed(2)).join(", ")}`);
  drawBars(levels, relative);
  const ramp = canvasRamp();
  figure.querySelector(".legend").replaceChildren(element("li", {}, "correlation 0 ", ramp, " 1"));
}

function canvasRamp() {
  const canvas = element("canvas", { class: "ramp", "aria-hidden": "true", width: "64", height: "1" });
  canvas.getContext("2d").putImageData(coloured(Float32Array.from({ length: 64 }, (_, i) => i / 63), 64, 1, 0, 1, SIZE), 0, 0);
  return canvas;
}

function drawBars(canvas, heights) {
  const [width, height] = [480, 200];
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const top = 1.1 * Math.max(1.2, ...heights);
  const step = width / heights.length;
  context.fillStyle = "#5f9fd0";
  heights.forEach((value, i) => {
    const size = (height * value) / top;
    context.fillRect(i * step + 0.12 * step, height - size, 0.76 * step, size);
  });
  context.fillStyle = "#f3b64e";
  context.fillRect(0, height - height / top, width, 2);
}

function drawCoils(figure, { shape: [, n, ny, nx], values }) {
  const part = Number(figure.querySelector("input:checked").value);
  const size = n * ny * nx;
  const magnitudes = values.subarray(0, size);
  // A coil is loudest right beside itself, mostly outside the object: the scale ends where nearly all of it is below.
  const sorted = Float32Array.from(magnitudes).sort();
  const most = sorted[Math.floor(0.99 * (size - 1))] || sorted[size - 1] || 1;
  const [low, high] = part ? [-Math.PI, Math.PI] : [0, most];
  const columns = Math.min(n, n > 24 ? COLUMNS : n > 8 ? 6 : 4);
  const canvas = figure.querySelector("canvas");
  const gap = 3;
  canvas.width = columns * (nx + gap) - gap;
  canvas.height = Math.ceil(n / columns) * (ny + gap) - gap;
  const context = canvas.getContext("2d");
  for (let coil = 0; coil < n; coil++) {
    const from = part * size + coil * ny * nx;
    const picture = coloured(values.subarray(from, from + ny * nx), nx, ny, low, high, part ? ANGLE : SIZE);
    // A phase where there is no sensitivity means nothing.
    for (let i = 0; i < ny * nx; i++) if (part && magnitudes[coil * ny * nx + i] < 1e-3 * most) picture.data[4 * i + 3] = 0;
    context.drawImage(canvasOf(picture), (coil % columns) * (nx + gap), Math.floor(coil / columns) * (ny + gap));
  }
  const scale = part ? "phase from −π to π" : `magnitude from 0 to ${Number(most.toPrecision(2))}`;
  caption(figure, `${plural(n, "coil")}, middle partition of the first k-space, ${scale}`);
}
