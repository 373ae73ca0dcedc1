// Takes a reader from trial to trial. An answer is told to the server at once; "Next" waits until it has them all.

import { numbers } from "/shared/api.js";
import { Questions } from "./questions.js";
import { Refused, send, state } from "./server.js";
import { Viewer } from "./viewer.js";

const get = (id) => document.getElementById(id);
const viewer = new Viewer();
const questions = new Questions(get("asked"), answered);

let trial = null;
let began = 0;
let seen = 0;
let sending = Promise.resolve();
let nSending = 0;
let leaving = false;

function warn(text) {
  get("alert").hidden = !text;
  get("alert").textContent = text;
}

function waiting(isCutOff) {
  warn(isCutOff ? "No connection to the server. Keep this page open: your answer is sent as soon as it is back." : "");
}

async function show(found) {
  get("title").textContent = document.title = found.title;
  get("reader").textContent = `Reader: ${found.reader}`;
  get("instructions").textContent = found.instructions;
  // What is on the screen belongs to the trial before: nothing is answered until the images of this one are there.
  trial = null;
  get("work").inert = true;
  const images = found.trial && (await imagesOf(found.trial));
  if (images?.includes(null)) return again("These images were read in another window; here are the next.");
  const done = found.trial ? found.trial.number : found.n_trials;
  get("progress").value = done;
  get("progress").max = found.n_trials;
  get("place").textContent = found.trial ? `${done + 1} of ${found.n_trials}` : `${done} of ${done} read`;
  trial = found.trial;
  get("work").hidden = trial === null;
  get("done").hidden = trial !== null;
  get("work").inert = false;
  if (!trial) return;
  questions.show(trial);
  viewer.show(trial.panes, images, trial.white, trial.greys);
  began = document.hidden ? 0 : performance.now();
  seen = 0;
  enable();
}

function imagesOf({ number, panes }) {
  return Promise.all(panes.map((_, pane) => numbers(`trials/${number}/images/${pane}`)));
}

/** Where the server says that the reader is, which another window may have changed. */
async function again(text = "") {
  try {
    await show(await state());
    warn(text);
  } catch (error) {
    warn(error instanceof Refused ? error.message : "No connection to the server. Open this page again when it is back.");
  }
}

function answered(question, pane, value) {
  const { number } = trial;
  nSending += 1;
  enable();
  sending = sending
    .then(() => send(`trials/${number}/answers`, { question, pane, value }, waiting))
    .catch((error) => refused(error))
    .finally(() => {
      nSending -= 1;
      enable();
    });
}

function enable() {
  const open = questions.items.filter((item) => !item.text && item.value === null).length;
  get("next").disabled = open > 0 || leaving;
  get("saved").textContent = nSending ? "Saving …" : open ? `${open} to answer` : "Saved";
}

async function refused(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.status === 409) await again(`${error.message}: here is where you are.`);
  else warn(error.message);
}

async function next() {
  if (!trial || leaving || questions.unanswered()) return;
  const { number } = trial;
  const seconds = (seen + (began ? performance.now() - began : 0)) / 1000;
  leaving = true;
  questions.tellTexts();
  enable();
  try {
    await sending;
    if (trial?.number === number) await finish(number, seconds);
  } catch (error) {
    await refused(error);
  } finally {
    leaving = false;
    enable();
  }
}

async function finish(number, seconds) {
  await show(await send(`trials/${number}/finish`, { answers: questions.answers(), seconds }, waiting));
}

get("questions").addEventListener("submit", (event) => {
  event.preventDefault();
  next();
});

// Only the time that the images are on the screen counts.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && began) seen += performance.now() - began;
  began = document.hidden ? 0 : performance.now();
});

document.addEventListener("keydown", (event) => {
  if (!trial || event.ctrlKey || event.metaKey || event.altKey) return;
  const { tagName, type } = event.target;
  if (tagName === "TEXTAREA" || (tagName === "BUTTON" && ["Enter", " "].includes(event.key))) return;
  // What a chosen field does with its own keys stays so.
  if (tagName === "INPUT" && (event.key.startsWith("Arrow") || (event.key === " " && type !== "radio"))) return;
  if (event.key === "Enter") next();
  else if (/^[1-9]$/.test(event.key)) questions.choose(Number(event.key));
  else if (!viewer.key(event.key.length === 1 ? event.key.toLowerCase() : event.key)) return;
  event.preventDefault();
});

again();
