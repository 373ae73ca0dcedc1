// What the page says to the server. Addresses are below the reader's own link.

/** Refused for good: asking again would not help. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export async function state() {
  return answerOf(await fetch("state"));
}

/** Send something, again and again until the server has it; `waiting` is told whether it could not be reached. */
export async function send(address, content, waiting) {
  for (;;) {
    let answer = null;
    try {
      answer = await fetch(address, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(content),
      });
    } catch {
      // No connection: the server was ended, perhaps for a moment.
    }
    waiting(answer === null);
    if (answer !== null) return answerOf(answer);
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
}

async function answerOf(answer) {
  if (!answer.ok) throw new Refused(answer.status, await answer.text());
  return answer.json();
}
