// Shows the images of a trial in panes that share window, zoom, place and frame, so that the same is seen in all of them.

import { GREY, canvasOf, coloured } from "/shared/colours.js";
import { element } from "/shared/text.js";

const get = (id) => document.getElementById(id);
const FRAME_MS = 80;

export class Viewer {
  constructor() {
    this.panes = [];
    this.listen();
  }

  /** Show images; frame, zoom and window begin anew. */
  show(names, images, white, greys) {
    this.stop();
    [this.white, this.greys] = [white, greys];
    this.nFrames = images[0].shape[0];
    this.frame = 0;
    this.single = 0;
    this.panes = names.map((name, number) => this.pane(name, images[number], number));
    get("panes").replaceChildren(...this.panes.map((pane) => pane.figure));
    get("alone").hidden = names.length < 2;
    get("play").hidden = get("frame-label").hidden = this.nFrames < 2;
    get("frame").max = String(this.nFrames - 1);
    this.arrange();
    this.reset();
  }

  pane(name, { shape, values }, number) {
    const canvas = element("canvas", { tabindex: "0", role: "img", "data-pane": String(number) });
    const figure = element("figure", {}, element("figcaption", {}, name), canvas);
    const pane = { name, canvas, figure, values, height: shape[1], width: shape[2] };
    new ResizeObserver(() => {
      const box = canvas.getBoundingClientRect();
      canvas.width = Math.max(1, Math.round(box.width * devicePixelRatio));
      canvas.height = Math.max(1, Math.round(box.height * devicePixelRatio));
      this.drawPane(pane);
    }).observe(canvas);
    this.listenTo(pane);
    return pane;
  }

  /** All panes, or one that the others take the place of. */
  arrange() {
    const alone = get("alone").getAttribute("aria-pressed") === "true" && this.panes.length > 1;
    this.panes.forEach((pane, number) => (pane.figure.hidden = alone && number !== this.single));
  }

  toggleAlone() {
    if (this.panes.length < 2) return;
    const alone = get("alone").getAttribute("aria-pressed") !== "true";
    get("alone").setAttribute("aria-pressed", String(alone));
    this.arrange();
  }

  other(step) {
    if (get("alone").getAttribute("aria-pressed") !== "true" || this.panes.length < 2) return;
    this.single = (this.single + step + this.panes.length) % this.panes.length;
    this.arrange();
  }

  reset() {
    this.range = [0, this.white];
    this.zoom = 1;
    this.centre = null; // the middle of the image
    this.paint();
  }

  /** Everything anew before the next picture of the screen, however often it is asked for. */
  paint() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      for (const pane of this.panes) {
        const size = pane.height * pane.width;
        const frame = pane.values.subarray(this.frame * size, (this.frame + 1) * size);
        pane.bitmap = canvasOf(coloured(frame, pane.width, pane.height, ...this.range, GREY));
        this.drawPane(pane);
      }
      this.label();
    });
  }

  layout({ canvas, width, height }) {
    const scale = this.zoom * Math.min(canvas.width / width, canvas.height / height);
    const [x, y] = this.centre ?? [width / 2, height / 2];
    return { scale, x, y };
  }

  drawPane(pane) {
    const { canvas, bitmap, width, height } = pane;
    const context = canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!bitmap) return;
    const { scale, x, y } = this.layout(pane);
    context.imageSmoothingEnabled = get("smooth").checked;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, canvas.width / 2 - x * scale, canvas.height / 2 - y * scale, width * scale, height * scale);
  }

  label() {
    const percent = (value) => Math.round((100 * value) / this.white);
    const [low, high] = this.range;
    get("window").textContent = `window ${percent(high - low)} %, level ${percent((low + high) / 2)} %, zoom ${this.zoom.toFixed(1)}×`;
    get("frame").value = String(this.frame);
    get("frame-out").textContent = `${this.frame + 1} of ${this.nFrames}`;
    const frame = this.nFrames > 1 ? `, frame ${this.frame + 1} of ${this.nFrames}` : "";
    for (const pane of this.panes) {
      pane.canvas.setAttribute("aria-label", `${pane.name}${frame}; black at ${percent(low)} %, white at ${percent(high)} %`);
    }
  }

  changeWindow(across, down) {
    const [low, high] = this.range;
    const half = Math.max(this.white / 512, high - low + across * this.white) / 2;
    const level = Math.max(0, Math.min(this.greys, (low + high) / 2 + down * this.white));
    this.range = [level - half, level + half];
    this.paint();
  }

  /** Zoom about a point of a pane, which stays where it is. */
  changeZoom(factor, pane = this.panes[0], at = null) {
    const [px, py] = at ?? [pane.canvas.width / 2, pane.canvas.height / 2];
    const before = this.layout(pane);
    this.zoom = Math.max(0.5, Math.min(32, this.zoom * factor));
    const shift = 1 / before.scale - 1 / this.layout(pane).scale;
    this.centre = [before.x + (px - pane.canvas.width / 2) * shift, before.y + (py - pane.canvas.height / 2) * shift];
    this.paint();
  }

  move(pane, across, down) {
    const { scale, x, y } = this.layout(pane);
    this.centre = [x - (across * devicePixelRatio) / scale, y - (down * devicePixelRatio) / scale];
    this.paint();
  }

  go(frame) {
    this.frame = Math.max(0, Math.min(this.nFrames - 1, frame));
    this.paint();
  }

  play() {
    if (this.timer) return this.stop();
    if (this.nFrames < 2) return undefined;
    this.timer = setInterval(() => this.go((this.frame + 1) % this.nFrames), FRAME_MS);
    get("play").textContent = "Stop";
    return get("play").setAttribute("aria-pressed", "true");
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    get("play").textContent = "Play";
    get("play").setAttribute("aria-pressed", "false");
  }

  listen() {
    get("frame").addEventListener("input", () => this.go(Number(get("frame").value)));
    get("play").addEventListener("click", () => this.play());
    get("alone").addEventListener("click", () => this.toggleAlone());
    get("smooth").addEventListener("change", () => this.paint());
    get("zoom-in").addEventListener("click", () => this.changeZoom(1.25));
    get("zoom-out").addEventListener("click", () => this.changeZoom(0.8));
    get("reset").addEventListener("click", () => this.reset());
  }

  listenTo(pane) {
    const { canvas } = pane;
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const [across, down] = [event.clientX - last[0], event.clientY - last[1]];
      last = [event.clientX, event.clientY];
      if (event.shiftKey || event.buttons & 6) this.move(pane, across, down);
      else this.changeWindow(across / 400, down / 400);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const at = [event.offsetX * devicePixelRatio, event.offsetY * devicePixelRatio];
      this.changeZoom(Math.exp(-event.deltaY / 400), pane, at);
    }, { passive: false });
  }

  /** What keys do; whether one was for the viewer. */
  key(name) {
    const keys = {
      ArrowUp: () => this.go(this.frame + 1),
      ArrowDown: () => this.go(this.frame - 1),
      ArrowRight: () => this.other(1),
      ArrowLeft: () => this.other(-1),
      "+": () => this.changeZoom(1.25),
      "=": () => this.changeZoom(1.25),
      "-": () => this.changeZoom(0.8),
      "[": () => this.changeWindow(-0.05, 0),
      "]": () => this.changeWindow(0.05, 0),
      ";": () => this.changeWindow(0, -0.025),
      "'": () => this.changeWindow(0, 0.025),
      " ": () => this.play(),
      r: () => this.reset(),
      s: () => this.toggleAlone(),
    };
    if (!(name in keys) || !this.panes.length) return false;
    keys[name]();
    return true;
  }
}
