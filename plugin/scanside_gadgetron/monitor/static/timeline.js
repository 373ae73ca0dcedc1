// When each stage worked: a row for each, time to the right, and how long it took in all and for one item.

import { count, drawn, duration, element } from "./text.js";

const WIDTH = 1000;

export function showTimeline(table, session, images) {
  const { spans, stages, totals } = session;
  const left = images.filter((image) => session.opened !== null).map((image) => image.time - session.opened);
  const end = Math.max(1e-3, ...spans.map(([, begin, ms]) => begin + ms / 1000), ...left);
  // What came first may be forgotten by now: the axis begins where there is something to see.
  const begin = session.n_images && spans.length >= 600 ? Math.min(...spans.map((span) => span[1])) : 0;
  const place = (seconds) => (WIDTH * (seconds - begin)) / (end - begin);
  const steps = ticks(begin, end).map((at) => {
    const label = element("span", {}, duration(at));
    label.style.left = `${(100 * (at - begin)) / (end - begin)}%`;
    return label;
  });
  const head = element(
    "tr",
    {},
    element("th", { scope: "col" }, "stage"),
    element("th", { scope: "col", class: "bars" }, element("div", { class: "ticks" }, ...steps)),
    element("th", { scope: "col", class: "number" }, "items"),
    element("th", { scope: "col", class: "number" }, "in all"),
    element("th", { scope: "col", class: "number" }, "for one"),
  );
  const rows = stages.map((stage, index) => {
    const marks = spans
      .filter((span) => span[0] === index)
      .map(([, from, ms]) => bar("work-bar", place(from), (WIDTH * ms) / 1000 / (end - begin), `${stage}: ${duration(ms / 1000)} at ${duration(from)}`));
    const total = totals[stage] ?? { items: 0, milliseconds: 0 };
    const one = total.items ? duration(total.milliseconds / total.items / 1000) : "–";
    return row(stage, marks, [count(total.items), duration(total.milliseconds / 1000), one]);
  });
  const out = left.filter((time) => time >= begin).map((time) => bar("image-mark", place(time) - 2, 4, `image after ${duration(time)}`));
  rows.push(row("images out", out, [count(session.n_images), "", ""]));
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

/** Round numbers between two times, about four of them. */
function ticks(begin, end) {
  const rough = (end - begin) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let i = Math.ceil(begin / step); i * step <= end + 0.01 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function bar(kind, x, width, title) {
  const rect = drawn("rect", { class: kind, x: x.toFixed(2), y: "4", width: Math.max(2, width).toFixed(2), height: "16", rx: "1" });
  rect.append(drawn("title", {}, title));
  return rect;
}

function row(name, marks, numbers) {
  const track = drawn("rect", { class: "track", x: "0", y: "4", width: String(WIDTH), height: "16", rx: "2" });
  const picture = drawn("svg", { viewBox: `0 0 ${WIDTH} 24`, preserveAspectRatio: "none", "aria-hidden": "true" }, track, ...marks);
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, name),
    element("td", { class: "bars" }, picture),
    ...numbers.map((text) => element("td", { class: "number" }, text)),
  );
}
