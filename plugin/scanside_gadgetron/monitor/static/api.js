// What the page asks the server for.

/** JSON of an address; null if it is not there any longer. */
export async function json(address) {
  const answer = await fetch(address);
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

/** Numbers of an address: {shape, values}; null if they are not there any longer. */
export async function numbers(address) {
  const answer = await fetch(address);
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(await answer.text());
  const shape = answer.headers.get("X-Scanside-Shape").split(",").map(Number);
  const bytes = await answer.arrayBuffer();
  // Little endian, as every machine that runs a browser is.
  const values = answer.headers.get("X-Scanside-Type") === "uint16" ? new Uint16Array(bytes) : new Float32Array(bytes);
  return { shape, values };
}

export const sessionAddress = (id) => `/api/sessions/${encodeURIComponent(id)}`;
