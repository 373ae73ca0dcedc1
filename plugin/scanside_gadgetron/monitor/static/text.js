// Numbers in words, and elements out of words. Text from the server becomes text nodes only, never markup.

/** An element with attributes and children; null children are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** An element of SVG. */
export function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Pairs of names and values as the content of a definition list. */
export function fillFacts(list, facts, wrap = false) {
  list.replaceChildren(
    ...facts.flatMap(([name, value]) => {
      const pair = [element("dt", {}, name), element("dd", {}, value)];
      return wrap ? [element("div", {}, ...pair)] : pair;
    }),
  );
}

/** A duration: 12 ms, 3.4 s, 2 min 05 s, 1 h 03 min. */
export function duration(seconds) {
  if (seconds === 0) return "0 s";
  if (seconds < 0.9995) {
    const ms = 1000 * seconds;
    return `${ms < 0.095 ? ms.toFixed(3) : ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
  }
  if (seconds < 99.5) return `${seconds.toFixed(seconds < 9.95 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
}

/** A count with thin spaces between thousands. */
export function count(n) {
  return String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** "1 image", "2 images", never broken between two lines. */
export function plural(n, one) {
  return `${count(n)}\u00a0${one}${n === 1 ? "" : "s"}`;
}

/** Three digits that matter. */
export function short(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}
