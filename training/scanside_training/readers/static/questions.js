// The form: one group of answers for each question, and for each image that it is asked of.

import { element } from "/shared/text.js";

export class Questions {
  /** `onAnswer` is told of every answer: (question, pane, value). */
  constructor(place, onAnswer) {
    this.place = place;
    this.onAnswer = onAnswer;
    this.items = [];
  }

  show(trial) {
    this.items = trial.questions.flatMap((question) => {
      const panes = question.of === "pair" ? [null] : [...Array(trial.n_rated).keys()];
      return panes.map((pane) => this.item(question, pane, trial.n_rated > 1 && pane !== null ? trial.panes[pane] : null));
    });
    for (const { question, pane, value } of trial.answers) {
      const item = this.items.find((one) => one.question.name === question && one.pane === pane);
      item.value = value;
      if (item.text) item.text.value = value;
      else item.inputs.find((input) => input.dataset.value === String(value)).checked = true;
    }
    this.place.replaceChildren(...this.items.map((item) => item.group));
    this.place.scrollTop = 0;
    this.mark(this.unanswered() ?? this.items[0]);
  }

  item(question, pane, side) {
    const item = { question, pane, value: null, inputs: [], text: null };
    const name = `${question.name}-${pane ?? "pair"}`;
    const legend = element("legend", {}, question.text, side ? element("span", { class: "pane" }, side) : null);
    item.group = element("fieldset", { "data-question": name }, legend);
    if (question.kind === "text") {
      item.text = element("textarea", { "aria-label": side ? `${question.text} ${side}` : question.text, maxlength: String(question.longest) });
      item.text.addEventListener("change", () => this.answer(item, item.text.value));
      item.group.append(item.text);
    } else {
      const options = question.options.map(({ value, label }, place) => {
        const input = element("input", { type: "radio", name, "data-value": String(value) });
        input.addEventListener("change", () => this.answer(item, value));
        item.inputs.push(input);
        return element("label", { class: "option" }, input, element("span", { class: "digit", "aria-hidden": "true" }, String(place + 1)), label);
      });
      item.group.append(element("div", { class: ["preference", "yes-no"].includes(question.kind) ? "sides" : "" }, ...options));
    }
    item.group.addEventListener("focusin", () => this.mark(item));
    return item;
  }

  answer(item, value) {
    item.value = value;
    this.onAnswer(item.question.name, item.pane, value);
  }

  /** Answers that lie in the fields but were not told yet: a text whose field still has the cursor. */
  tellTexts() {
    for (const item of this.items) {
      if (item.text && item.text.value !== (item.value ?? "")) this.answer(item, item.text.value);
    }
  }

  unanswered() {
    return this.items.find((item) => !item.text && item.value === null);
  }

  answers() {
    return this.items.filter((item) => item.value !== null).map(({ question, pane, value }) => ({ question: question.name, pane, value }));
  }

  mark(item) {
    this.marked = item;
    for (const one of this.items) one.group.classList.toggle("active", one === item);
  }

  /** Choose the nth answer of the marked question, and go on to the next that has none. */
  choose(digit) {
    const input = this.marked?.inputs[digit - 1];
    if (!input) return;
    const item = this.marked;
    input.checked = true;
    this.answer(item, item.question.options[digit - 1].value);
    const next = this.unanswered();
    if (next) this.mark(next);
    this.marked.group.scrollIntoView({ block: "nearest" });
  }
}
