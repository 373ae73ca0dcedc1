// The list of sessions: those that run first, then those that wait, then the others, the latest first.

import { duration, element, plural } from "./text.js";

const ORDER = { running: 0, queued: 1, done: 2, failed: 2, lost: 2 };

export class SessionList {
  /** @param {HTMLElement} root takes the cards. @param {(id: string) => void} onChoose is told of a choice. */
  constructor(root, onChoose) {
    this.root = root;
    this.onChoose = onChoose;
    this.cards = new Map();
  }

  show(sessions, chosen, now) {
    const sorted = [...sessions.values()].sort((a, b) => ORDER[a.state] - ORDER[b.state] || b.since - a.since);
    for (const id of this.cards.keys()) if (!sessions.has(id)) this.cards.delete(id);
    const cards = sorted.map((session) => this.card(session, session.id === chosen, now));
    // Cards stay the same elements, so that the keyboard's focus stays where it is.
    if (cards.some((card, i) => this.root.children[i] !== card) || this.root.children.length !== cards.length) {
      const focused = document.activeElement;
      this.root.replaceChildren(...cards);
      if (this.root.contains(focused)) focused.focus();
    }
  }

  card(session, isChosen, now) {
    let item = this.cards.get(session.id);
    if (!item) {
      item = element("li", {}, element("button", { type: "button" }));
      item.firstChild.addEventListener("click", () => this.onChoose(session.id));
      this.cards.set(session.id, item);
    }
    const button = item.firstChild;
    button.className = `card ${session.state}`;
    button.setAttribute("aria-current", String(isChosen));
    const flags = [];
    if (session.n_fallbacks) flags.push(plural(session.n_fallbacks, "fallback"));
    if (session.n_warnings) flags.push(plural(session.n_warnings, "warning"));
    const time = new Date(1000 * session.since).toLocaleTimeString([], { hourCycle: "h23" });
    const took = session.seconds ?? (session.started === null ? null : Math.max(0, Math.round(now - session.started)));
    button.replaceChildren(
      element("b", {}, session.protocol || session.pipeline || session.id),
      element("span", { class: "word" }, session.state),
      element("span", { class: "of" }, `${session.pipeline ? `${session.pipeline}, ` : ""}${plural(session.n_images, "image")}`),
      element("span", { class: "of" }, time),
      flags.length ? element("span", { class: "flag" }, flags.join(", ")) : element("span"),
      element("span", { class: "of" }, took === null || session.state === "running" ? "" : duration(took)),
    );
    if (session.state === "running" && session.expected_readouts) {
      const bar = element("progress", { max: "1", "aria-label": "Readouts received" });
      bar.value = Math.min(1, session.n_readouts / session.expected_readouts);
      button.append(bar);
    }
    return item;
  }
}
