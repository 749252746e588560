import { randomUUID } from "crypto";

/** When and by which render a page was made; also a line in the log of the server. */
export function stamp(page) {
  const made = { id: randomUUID(), at: new Date().toISOString() };
  console.log(`made ${page} ${made.id}`);
  return made;
}
