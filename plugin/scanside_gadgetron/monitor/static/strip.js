// Small pictures of a frame's slices, to see at a glance what has come, and to choose from.

import { GREY, canvasOf, coloured } from "./colours.js";
import { element } from "./text.js";

const MOST = 16;
const PAUSE_MS = 250;

export class Strip {
  /**
   * @param {HTMLElement} root takes the pictures.
   * @param {(plane: object) => Promise<ArrayLike<number>|null>} fetchPlane gives a plane's values.
   * @param {(slice: number) => void} onChoose is told of a choice.
   */
  constructor(root, fetchPlane, onChoose) {
    this.root = root;
    this.fetchPlane = fetchPlane;
    this.onChoose = onChoose;
    this.timer = null;
  }

  /** Draw soon; what is asked for meanwhile takes the place of what was asked for before. */
  show(planes, slice, window) {
    this.wanted = { planes, slice, window };
    this.root.hidden = planes.length < 2;
    this.mark(slice);
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.draw(this.wanted);
    }, PAUSE_MS);
  }

  mark(slice) {
    // Of a volume only some slices are here: the one nearest to the chosen is marked.
    const buttons = [...this.root.children];
    const distance = (button) => Math.abs(Number(button.dataset.slice) - slice);
    const nearest = buttons.reduce((a, b) => (a && distance(a) <= distance(b) ? a : b), null);
    for (const button of buttons) button.setAttribute("aria-current", String(button === nearest));
  }

  async draw({ planes, slice, window }) {
    const n = planes.length < 2 ? 0 : Math.min(planes.length, MOST);
    const chosen = Array.from({ length: n }, (_, i) => Math.round((i * (planes.length - 1)) / Math.max(1, n - 1)));
    while (this.root.children.length > n) this.root.lastChild.remove();
    while (this.root.children.length < n) this.root.append(this.button());
    chosen.forEach((at, i) => {
      this.root.children[i].dataset.slice = String(at);
      this.root.children[i].setAttribute("aria-label", `slice ${at + 1} of ${planes.length}`);
    });
    this.mark(slice);
    for (const [i, at] of chosen.entries()) {
      const values = await this.fetchPlane(planes[at]);
      const button = this.root.children[i];
      // Another frame or session may have been chosen while this one was on its way.
      if (values && button?.dataset.slice === String(at) && this.wanted.planes === planes) {
        paint(button.firstChild, planes[at].image.picture, values, window ?? [0, planes[at].image.picture.high]);
      }
    }
  }

  button() {
    const made = element("button", { type: "button" }, element("canvas", { width: "1", height: "1", "aria-hidden": "true" }));
    made.addEventListener("click", () => this.onChoose(Number(made.dataset.slice)));
    return made;
  }
}

function paint(canvas, picture, values, window) {
  const [, ny, nx] = picture.shape;
  const [height, width] = picture.pixel_mm;
  canvas.height = 96;
  canvas.width = Math.round((96 * nx * width) / (ny * height));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(canvasOf(coloured(values, nx, ny, ...window, GREY)), 0, 0, canvas.width, canvas.height);
}
