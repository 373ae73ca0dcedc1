// Colour scales, as tables of 256 colours made from a few points of even steps in lightness.

/** @param {number[][]} points red, green and blue at even distances. */
function scale(points) {
  const table = new Uint8ClampedArray(3 * 256);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (points.length - 1);
    const k = Math.min(Math.floor(at), points.length - 2);
    for (let c = 0; c < 3; c++) table[3 * i + c] = points[k][c] + (at - k) * (points[k + 1][c] - points[k][c]);
  }
  return table;
}

export const GREY = scale([[0, 0, 0], [255, 255, 255]]);
/** For sizes: dark blue to pale yellow. */
export const SIZE = scale([[8, 12, 30], [22, 56, 104], [24, 110, 134], [60, 160, 130], [150, 205, 110], [250, 240, 170]]);
/** For angles: comes back to where it began, equally light at ±90°. */
export const ANGLE = scale([[236, 232, 236], [120, 160, 205], [60, 50, 110], [30, 20, 40], [110, 40, 80], [205, 140, 130], [236, 232, 236]]);

/** Numbers as an image of their colours: black or the first colour at low, the last at high. */
export function coloured(values, width, height, low, high, table) {
  const picture = new ImageData(width, height);
  const pixels = picture.data;
  const step = high > low ? 255 / (high - low) : 0;
  for (let i = 0; i < width * height; i++) {
    // Not-a-number becomes 0 by the bitwise or; it must not become white.
    const at = 3 * Math.max(0, Math.min(255, Math.round((values[i] - low) * step) | 0));
    pixels[4 * i] = table[at];
    pixels[4 * i + 1] = table[at + 1];
    pixels[4 * i + 2] = table[at + 2];
    pixels[4 * i + 3] = 255;
  }
  return picture;
}

/** A canvas of its own that holds a picture, to be drawn elsewhere at any size. */
export function canvasOf(picture) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
