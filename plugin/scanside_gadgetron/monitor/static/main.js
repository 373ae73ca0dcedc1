// Listens to the server and keeps the list, the chosen session and its parts in step.

import { json, sessionAddress } from "./api.js";
import { showAlerts, showHead, showSoftware } from "./detail.js";
import { Observations } from "./observations.js";
import { SessionList } from "./sessions.js";
import { element, plural } from "./text.js";
import { showTimeline } from "./timeline.js";
import { Viewer } from "./viewer.js";

const get = (id) => document.getElementById(id);
const sessions = new Map();
const viewer = new Viewer();
const observations = new Observations();
const list = new SessionList(get("sessions"), (id) => {
  get("newest").checked = false;
  location.hash = `#${id}`;
});

let chosen = null;
let detail = null;
let images = new Map();
let asking = false;
let began = null;
let clockOffset = 0;

/** The server's clock, which may differ from ours. */
const now = () => Date.now() / 1000 + clockOffset;

function choose(id) {
  if (id === chosen) return;
  chosen = id;
  detail = null;
  images = new Map();
  get("empty").hidden = id !== null;
  viewer.clear();
  observations.clear();
  if (id === null) get("session").hidden = true;
  list.show(sessions, chosen, now());
  ask();
}

/** The session that came last, those that run or wait before those that are over. */
function newest() {
  const all = [...sessions.values()];
  const open = all.filter((one) => one.state === "running");
  return (open.length ? open : all).sort((a, b) => b.since - a.since)[0]?.id ?? null;
}

/** Bring the chosen session up to date: one question at a time, and again if it changed meanwhile. */
async function ask() {
  if (asking || chosen === null) return;
  asking = true;
  const id = chosen;
  try {
    while (id === chosen && detail?.revision !== sessions.get(id)?.revision) {
      const known = images.size ? Math.max(...images.keys()) : null;
      const found = await json(sessionAddress(id) + (known === null ? "" : `?after=${known}`));
      if (id !== chosen || found === null) break;
      detail = found;
      for (const image of found.images) images.set(image.index, image);
      for (const index of images.keys()) if (index < found.first_image) images.delete(index);
      show();
      // Whoever looks sees no difference above ten times a second.
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  } catch (error) {
    console.error(error);
  } finally {
    asking = false;
  }
  if (id !== chosen) ask();
}

function show() {
  get("session").hidden = false;
  const shown = [...images.values()];
  showHead(detail, now());
  showAlerts(get("alerts"), detail);
  showSoftware(detail, shown);
  showTimeline(get("timeline"), detail, shown);
  viewer.show(detail.id, shown, detail.state);
  observations.show(detail.id, detail.observations, shown.some((image) => image.picture !== null));
}

function showPool(news) {
  const { not_ready: reason, queue_depth: depth, version } = news.pool;
  const states = news.workers.map((worker) => worker.state);
  const busy = states.filter((state) => state === "busy").length;
  const loading = states.filter((state) => state === "loading").length;
  const ready = element("span", { class: reason ? "" : "ready" }, element("span", { class: "dot" }), reason || "Ready");
  const workers = `${plural(states.length, "worker")}, ${busy} busy${loading ? `, ${loading} loading` : ""}`;
  const parts = [ready, element("span", {}, workers)];
  if (depth) parts.push(element("span", {}, `${depth} waiting`));
  parts.push(element("span", { class: "faint" }, `version ${version}`));
  get("pool").replaceChildren(...parts);
  const refused = Object.entries(news.refused);
  get("refused").hidden = !refused.length;
  get("refused").textContent = `Turned away: ${refused.map(([why, n]) => `${n} (${why.replace("-", " ")})`).join(", ")}`;
}

function hear(news) {
  clockOffset = news.time - Date.now() / 1000;
  if (news.began !== began) {
    // Another server: it counts anew, and its sessions are other ones though they may be called the same.
    began = news.began;
    sessions.clear();
    choose(null);
  }
  for (const session of news.sessions) sessions.set(session.id, session);
  const ids = new Set(news.ids);
  for (const id of sessions.keys()) if (!ids.has(id)) sessions.delete(id);
  showPool(news);
  if (get("newest").checked) choose(newest());
  else if (chosen !== null && !sessions.has(chosen)) choose(newest());
  list.show(sessions, chosen, now());
  ask();
}

const source = new EventSource("/events");
source.onmessage = (event) => {
  get("line").hidden = true;
  hear(JSON.parse(event.data));
};
source.onopen = () => viewer.load();
source.onerror = () => {
  get("line").hidden = false;
};

get("newest").addEventListener("change", () => get("newest").checked && choose(newest()));
window.addEventListener("hashchange", () => {
  const id = decodeURIComponent(location.hash.slice(1));
  if (!sessions.has(id)) return;
  get("newest").checked = false;
  choose(id);
});
setInterval(() => {
  if (detail && detail.state === "running") showHead(detail, now());
}, 1000);
