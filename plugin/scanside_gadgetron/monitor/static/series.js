// Which images belong together: a series has frames, a frame has slices.

const FRAME = ["contrast", "phase", "repetition", "set", "average"];

/**
 * Images in their series.
 *
 * @returns {Map<string, {name: string, frames: {name: string, planes: {image: object, z: number}[]}[]}>}
 */
export function seriesOf(images) {
  const found = new Map();
  for (const image of images) {
    if (image.picture === null) continue;
    const number = image.counters.image_series_index ?? 0;
    const key = `${number} ${image.image_type}`;
    if (!found.has(key)) found.set(key, { name: `${number}, ${image.image_type}`, frames: new Map() });
    const frames = found.get(key).frames;
    const counters = FRAME.map((name) => image.counters[name] ?? 0);
    const frame = counters.map((n) => String(n).padStart(6, "0")).join(" ");
    if (!frames.has(frame)) {
      const named = FRAME.map((name, i) => (counters[i] ? `${name} ${counters[i]}` : "")).filter(Boolean);
      frames.set(frame, { name: named.join(", "), slices: new Map() });
    }
    // The same place once more, say after a reload of the pipeline: the later image counts.
    frames.get(frame).slices.set(image.counters.slice ?? 0, image);
  }
  for (const series of found.values()) {
    series.frames = [...series.frames.entries()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { name, slices }]) => ({ name, planes: planesOf(slices) }));
  }
  return found;
}

function planesOf(slices) {
  return [...slices.entries()]
    .sort(([a], [b]) => a - b)
    .flatMap(([, image]) => Array.from({ length: image.picture.shape[0] }, (_, z) => ({ image, z })));
}

/** Where an image's first plane is: [key of its series, number of its frame, number of its slice]. */
export function placeOf(series, index) {
  for (const [key, { frames }] of series) {
    for (const [frame, { planes }] of frames.entries()) {
      const slice = planes.findIndex((plane) => plane.image.index === index);
      if (slice >= 0) return [key, frame, slice + Math.floor(planes[slice].image.picture.shape[0] / 2)];
    }
  }
  return null;
}
