// The head of a session, what needs attention, and what it was made with.

import { count, duration, element, fillFacts, plural } from "./text.js";

const get = (id) => document.getElementById(id);

export function showHead(session, now) {
  get("title").textContent = session.scan.protocol || session.pipeline || "Waiting for the scan's header";
  const parts = [`session ${session.id}`, `from ${session.peer}${session.handed_over ? ", handed over by Gadgetron's node" : ""}`];
  if (session.worker !== null) parts.push(`worker ${session.worker}`);
  if (session.waited_s >= 0.05) parts.push(`waited ${duration(session.waited_s)}`);
  get("subtitle").textContent = parts.join(" · ");
  document.title = `${session.state} · ${get("title").textContent} · Scanside`;
  const state = get("state");
  // Written only when it changes, or a screen reader would say it again and again.
  if (state.textContent !== session.state) state.textContent = session.state;
  state.className = `state ${session.state}`;
  const running = session.state === "running";
  const of = running && session.expected_readouts ? ` of about ${count(session.expected_readouts)}` : "";
  const seconds = session.seconds ?? (session.started === null ? 0 : Math.max(0, now - session.started));
  const figures = [
    ["images", count(session.n_images)],
    ["readouts", count(session.n_readouts) + of],
    ["last image after", session.latency_ms === null ? "–" : duration(session.latency_ms / 1000)],
    [running ? "running for" : "took", running && seconds < 99.5 ? `${Math.floor(seconds)} s` : duration(seconds)],
  ];
  fillFacts(get("figures"), figures, true);
  const bar = get("progress");
  bar.hidden = !running || !session.expected_readouts;
  if (!bar.hidden) bar.value = Math.min(1, session.n_readouts / session.expected_readouts);
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

export function showAlerts(list, session) {
  const items = [];
  if (session.error) {
    const told = session.reported ? "The scanner was told." : "The scanner could not be told.";
    items.push(["error", session.state === "lost" ? "Lost" : "Failed", `${sentence(session.error)} ${told}`]);
  }
  for (const { reason, count: n, text } of session.fallbacks) {
    const why = text.startsWith(`${reason}: `) ? text.slice(reason.length + 2) : text;
    items.push(["", "Classical fallback", `${plural(n, "image")} not made by the engine (${reason}): ${sentence(why)}`]);
  }
  for (const text of session.warnings) items.push(["", "Warning", text]);
  const hidden = session.n_warnings - session.warnings.length;
  if (hidden > 0) items.push(["", "Warning", `and ${hidden} more that say the same or were too many`]);
  const key = JSON.stringify(items);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...items.map(([kind, head, text]) => element("li", { class: kind }, element("b", {}, head), text)));
}

const NAMES = { field_of_view_mm: "field of view (mm)", n_coils: "coils", field_strength_t: "field strength (T)" };

export function showSoftware(session, images) {
  const scan = Object.entries(session.scan)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => [NAMES[name] ?? name.replaceAll("_", " "), Array.isArray(value) ? value.join(" × ") : String(value)]);
  fillFacts(get("scan"), scan.length ? scan : [["header", "not yet received"]]);
  const facts = [["pipeline", session.pipeline || "–"]];
  if (session.stages.length) facts.push(["stages", session.stages.join(" → ")]);
  for (const engine of session.engines) {
    facts.push(["engine", [engine.bundle, engine.backend, engine.precision].filter(Boolean).join(", ")]);
    if (engine.weights) facts.push(["weights", engine.weights.slice(0, 12)]);
  }
  const last = images.at(-1)?.attributes ?? {};
  if (last.ScansideEngine) {
    const how = (last.ScansideBackend ?? []).slice(0, 2);
    facts.push(["last image by", [last.ScansideEngine.join(" "), ...how].join(", ")]);
  } else if (images.at(-1)?.fallback) facts.push(["last image by", "the classical fallback"]);
  if (last.ScansideWeights) facts.push(["its weights", last.ScansideWeights[0]]);
  if (last.ScansideDataConsistency) facts.push(["data residual", last.ScansideDataConsistency.join(" ")]);
  if (last.ScansideCheck) {
    const [word, figure, against, lines] = last.ScansideCheck;
    facts.push(["self-check", word === "none" ? `none: ${figure}` : `${word}, ${figure} against ${against} on ${lines}`]);
  }
  if (last.ScansideGhost) facts.push(["Nyquist ghost", `${(100 * Number(last.ScansideGhost[0])).toFixed(1)} % of the signal`]);
  if (last.ScansideVersion) facts.push(["Scanside", last.ScansideVersion.join(" ")]);
  fillFacts(get("software"), facts);
}
