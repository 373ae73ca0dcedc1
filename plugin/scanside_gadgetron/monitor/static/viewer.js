// Shows one plane at a time, as its pixels are: columns along the read, rows along the phase direction, in the right
// proportions, with the patient's directions at the edges.

import { numbers, sessionAddress } from "./api.js";
import { GREY, canvasOf, coloured } from "./colours.js";
import { placeOf, seriesOf } from "./series.js";
import { Strip } from "./strip.js";
import { element, short } from "./text.js";

const get = (id) => document.getElementById(id);
const MOST_KEPT = 128;
const FRAME_MS = 80;

export class Viewer {
  constructor() {
    this.canvas = get("image");
    this.context = this.canvas.getContext("2d");
    this.planes = new Map();
    this.strip = new Strip(get("strip"), (plane) => this.valuesOf(plane), (slice) => this.go(slice, this.frame));
    this.clear();
    this.listen();
  }

  clear() {
    this.session = null;
    this.series = new Map();
    this.key = null;
    this.frame = 0;
    this.slice = 0;
    this.shown = null;
    this.window = null;
    this.latest = -1;
    this.planes.clear();
    this.stop();
    this.fit();
    this.strip.show([], 0, null);
    this.draw();
  }

  /** Learn of the images there are. */
  show(session, images, state) {
    this.session = session;
    this.over = state !== "running" && state !== "queued";
    this.series = seriesOf(images);
    const latest = images.reduce((last, image) => (image.picture ? Math.max(last, image.index) : last), -1);
    if (!this.series.has(this.key)) this.key = this.series.keys().next().value ?? null;
    if (latest > this.latest) {
      this.latest = latest;
      if (get("follow").checked && !this.timer) {
        const place = placeOf(this.series, latest);
        if (place) [this.key, this.frame, this.slice] = place;
      }
    }
    this.controls();
    this.load();
  }

  frames() {
    return this.series.get(this.key)?.frames ?? [];
  }

  plane() {
    const frames = this.frames();
    const planes = frames[Math.min(this.frame, frames.length - 1)]?.planes ?? [];
    return planes[Math.min(this.slice, planes.length - 1)] ?? null;
  }

  controls() {
    const frames = this.frames();
    const nSlices = Math.max(1, ...frames.map((frame) => frame.planes.length));
    this.frame = Math.max(0, Math.min(this.frame, frames.length - 1));
    this.slice = Math.max(0, Math.min(this.slice, nSlices - 1));
    slider("slice", this.slice, nSlices);
    slider("frame", this.frame, frames.length);
    get("series-label").hidden = this.series.size < 2;
    const select = get("series");
    const keys = [...this.series.keys()].join("|");
    if (select.dataset.keys !== keys) {
      select.dataset.keys = keys;
      select.replaceChildren(...[...this.series].map(([key, { name }]) => element("option", { value: key }, name)));
    }
    if (this.key !== null) select.value = this.key;
    get("play").disabled = frames.length < 2;
  }

  address(plane) {
    return `${sessionAddress(this.session)}/images/${plane.image.index}?z=${plane.z}`;
  }

  /** Values of a plane, fetched unless they are here; null if they cannot be had. */
  async valuesOf(plane) {
    const address = this.address(plane);
    if (!this.planes.has(address)) {
      // Without a connection a banner says so, and the plane is asked for again with the next change.
      const found = await numbers(address).catch(() => null);
      if (!found) return null;
      this.planes.set(address, found.values);
      if (this.planes.size > MOST_KEPT) this.planes.delete(this.planes.keys().next().value);
    }
    return this.planes.get(address);
  }

  /** Show the chosen plane; only the latest choice is drawn. */
  async load() {
    const plane = this.plane();
    if (!plane) return this.draw();
    const wanted = (this.wanted = this.address(plane));
    const values = await this.valuesOf(plane);
    if (!values || this.wanted !== wanted) return undefined;
    const before = this.shown?.key;
    this.shown = { key: this.key, image: plane.image, z: plane.z, values };
    // One window for a whole series, so that its slices and frames compare.
    if (this.window === null || before !== this.key) this.window = [0, plane.image.picture.high];
    return this.paint();
  }

  /** Grey values anew, after another plane or another window was chosen. */
  paint() {
    if (!this.shown) return;
    const [, y, x] = this.shown.image.picture.shape;
    this.bitmap = canvasOf(coloured(this.shown.values, x, y, ...this.window, GREY));
    this.strip.show(this.frames()[this.frame]?.planes ?? [], this.slice, this.window);
    this.draw();
  }

  fit() {
    this.zoom = 1;
    this.pan = [0, 0];
  }

  /** Where the picture lies on the canvas, in its pixels: left, top, and the size of an image's pixel. */
  layout() {
    const [, ny, nx] = this.shown.image.picture.shape;
    const [height, width] = this.shown.image.picture.pixel_mm;
    const scale = this.zoom * Math.min(this.canvas.width / (nx * width), this.canvas.height / (ny * height));
    const [dx, dy] = [scale * width, scale * height];
    const left = (this.canvas.width - nx * dx) / 2 + this.pan[0];
    const top = (this.canvas.height - ny * dy) / 2 + this.pan[1];
    return { left, top, dx, dy, nx, ny };
  }

  draw() {
    const { canvas, context } = this;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    get("wait").hidden = this.shown !== null;
    get("wait").textContent = this.over && !this.shown ? "No image" : "No image yet";
    if (this.shown) {
      const { left, top, dx, dy, nx, ny } = this.layout();
      context.imageSmoothingEnabled = get("smooth").checked;
      context.imageSmoothingQuality = "high";
      context.drawImage(this.bitmap, left, top, nx * dx, ny * dy);
    }
    this.label();
  }

  label() {
    const image = this.shown?.image;
    const letters = image?.picture.edges ?? ["", "", "", ""];
    const places = ["left", "right", "top", "bottom"];
    places.forEach((place, i) => {
      document.querySelector(`.edge.${place}`).textContent = letters[i];
    });
    if (!image) {
      for (const id of ["what", "made-by", "probe", "window"]) get(id).replaceChildren();
      this.canvas.setAttribute("aria-label", "No image yet");
      return;
    }
    const frames = this.frames();
    const frame = frames[this.frame];
    const z = image.picture.shape[0] > 1 ? `, z ${this.shown.z}` : "";
    // MRD counts from 0, the slider from 1.
    const what = [`MRD slice ${image.counters.slice ?? 0}${z}`, frame?.name, image.picture.plane].filter(Boolean).join("\n");
    get("what").textContent = what;
    const by = image.attributes.ScansideEngine?.join(" ") ?? image.attributes.ScansidePipeline?.join(" ") ?? "";
    const badges = [];
    if (image.fallback) badges.push(`fallback: ${image.fallback.split(":")[0]}`);
    const check = image.attributes.ScansideCheck?.[0] ?? "";
    if (!image.fallback && check.startsWith("worse")) badges.push(`self-check: ${check}`);
    if (image.attributes.ScansideIncomplete) badges.push("incomplete data");
    get("made-by").replaceChildren(by, ...badges.flatMap((text) => ["\n", element("span", { class: "bad" }, text)]));
    const [low, high] = this.window;
    get("window").textContent = `window ${short(high - low)}\nlevel ${short((low + high) / 2)}\nzoom ${this.zoom.toFixed(1)}×`;
    this.canvas.setAttribute(
      "aria-label",
      `Image ${image.index}: ${what.replaceAll("\n", ", ")}; black at ${short(low)}, white at ${short(high)}` +
        (letters[0] ? `; left edge ${letters[0]}, top edge ${letters[2]}` : "") +
        (badges.length ? `; ${badges.join(", ")}` : ""),
    );
  }

  // What the operator does.

  setWindow(width, level) {
    if (!this.window) return;
    const least = 1e-6 * (this.shown?.image.picture.high ?? 1);
    const half = Math.max(least, width) / 2;
    this.window = [level - half, level + half];
    this.paint();
  }

  changeWindow(across, down) {
    if (!this.window) return;
    const [low, high] = this.window;
    const range = this.shown?.image.picture.high ?? 1;
    this.setWindow(high - low + across * range, (low + high) / 2 + down * range);
  }

  /** Zoom about a point of the canvas, which stays where it is. */
  changeZoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const zoom = Math.max(0.5, Math.min(32, this.zoom * factor));
    const change = zoom / this.zoom;
    const [cx, cy] = [x - this.canvas.width / 2, y - this.canvas.height / 2];
    this.pan = [cx + change * (this.pan[0] - cx), cy + change * (this.pan[1] - cy)];
    this.zoom = zoom;
    this.draw();
  }

  go(slice, frame) {
    // Whoever picks an image wants to keep it.
    get("follow").checked = false;
    this.slice = slice;
    this.frame = frame;
    this.controls();
    this.load();
  }

  reset() {
    this.fit();
    if (this.shown) this.window = [0, this.shown.image.picture.high];
    this.paint();
  }

  play() {
    if (this.timer) return this.stop();
    if (this.frames().length < 2) return undefined;
    get("follow").checked = false;
    this.timer = setInterval(() => this.go(this.slice, (this.frame + 1) % this.frames().length), FRAME_MS);
    return this.playing(true);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.playing(false);
  }

  playing(is) {
    get("play").textContent = is ? "Stop" : "Play";
    get("play").setAttribute("aria-pressed", String(is));
  }

  /** The value under the pointer, its voxel, and where that lies in the patient. */
  probe(x, y) {
    if (!this.shown) return;
    const { left, top, dx, dy, nx, ny } = this.layout();
    const [column, row] = [Math.floor((x - left) / dx), Math.floor((y - top) / dy)];
    if (column < 0 || row < 0 || column >= nx || row >= ny) return get("probe").replaceChildren();
    const affine = this.shown.image.picture.affine;
    const voxel = [column, row, this.shown.z, 1];
    const place = affine?.map((line) => line.reduce((sum, a, i) => sum + a * voxel[i], 0).toFixed(1));
    const value = short(this.shown.values[row * nx + column]);
    get("probe").textContent = `${value}\nx ${column}, y ${row}${place ? `\nL ${place[0]}, P ${place[1]}, H ${place[2]} mm` : ""}`;
  }

  listen() {
    const { canvas } = this;
    new ResizeObserver(() => {
      const box = canvas.getBoundingClientRect();
      canvas.width = Math.max(1, Math.round(box.width * devicePixelRatio));
      canvas.height = Math.max(1, Math.round(box.height * devicePixelRatio));
      this.draw();
    }).observe(canvas);
    const at = (event) => [event.offsetX * devicePixelRatio, event.offsetY * devicePixelRatio];
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.probe(...at(event));
      if (!last) return;
      const [across, down] = [event.clientX - last[0], event.clientY - last[1]];
      last = [event.clientX, event.clientY];
      if (event.shiftKey || event.buttons & 6) {
        this.pan = [this.pan[0] + across * devicePixelRatio, this.pan[1] + down * devicePixelRatio];
        this.draw();
      } else this.changeWindow(across / 400, down / 400);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
    canvas.addEventListener("pointerleave", () => get("probe").replaceChildren());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.changeZoom(Math.exp(-event.deltaY / 400), ...at(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key_(event));
    get("slice").addEventListener("input", () => this.go(Number(get("slice").value), this.frame));
    get("frame").addEventListener("input", () => this.go(this.slice, Number(get("frame").value)));
    get("series").addEventListener("change", () => {
      this.key = get("series").value;
      this.go(this.slice, this.frame);
    });
    get("follow").addEventListener("change", () => {
      const place = get("follow").checked && placeOf(this.series, this.latest);
      if (place) [this.key, this.frame, this.slice] = place;
      this.controls();
      this.load();
    });
    get("smooth").addEventListener("change", () => this.draw());
    get("play").addEventListener("click", () => this.play());
    get("zoom-in").addEventListener("click", () => this.changeZoom(1.25));
    get("zoom-out").addEventListener("click", () => this.changeZoom(0.8));
    get("reset").addEventListener("click", () => this.reset());
  }

  key_(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowUp: () => this.go(this.slice + 1, this.frame),
      ArrowDown: () => this.go(this.slice - 1, this.frame),
      ArrowRight: () => this.go(this.slice, this.frame + 1),
      ArrowLeft: () => this.go(this.slice, this.frame - 1),
      "+": () => this.changeZoom(1.25),
      "=": () => this.changeZoom(1.25),
      "-": () => this.changeZoom(0.8),
      "[": () => this.changeWindow(-0.05, 0),
      "]": () => this.changeWindow(0.05, 0),
      ";": () => this.changeWindow(0, -0.025),
      "'": () => this.changeWindow(0, 0.025),
      " ": () => this.play(),
      0: () => this.reset(),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }
}

function slider(name, value, n) {
  get(`${name}-label`).hidden = n < 2;
  get(name).max = String(Math.max(0, n - 1));
  get(name).value = String(value);
  get(`${name}-out`).textContent = `${value + 1} of ${n}`;
}
