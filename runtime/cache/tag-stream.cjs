"use strict";
/**
 * The Redis stream `<root>tags`, one item a revalidation: `[tags, profile]` as JSON. O(1) to add, and a reader gets
 * what is new together with the entry it asks for, in one round trip. It is bounded; its ids are times of Redis.
 * Readers ask from the last item they know on, inclusive, and so notice when that is gone.
 * https://redis.io/docs/latest/develop/data-types/streams/
 */

const ITEMS = 10_000;
const PAGE = 1_000;
/**
 * Ids are whole ms, and of the time when Redis began to work off its requests: what they name lies up to this
 * many ms later.
 */
const GRAIN_MS = 2;

class TagStream {
  #last = "-";
  #reload;
  /** Whether everything that is in the stream has been read once. */
  loaded = false;

  /** @param {{root: string, maxAgeSeconds: number, state: import("./tag-state.cjs").TagState}} options */
  constructor({ root, maxAgeSeconds, state }) {
    this.key = `${root}tags`;
    this.ttl = String(maxAgeSeconds + 86_400);
    this.state = state;
  }

  /** Adds an item. @returns {Promise<number>} its time, ms by the clock of Redis */
  async add(client, event) {
    const add = ["XADD", this.key, "MAXLEN", "~", String(ITEMS), "*", "e", event];
    const [id] = await Promise.all([client.sendCommand(add), this.keep(client)]);
    return timeOf(id);
  }

  /** The stream outlives every entry, and ends when nobody has used it for that long. */
  keep(client) {
    return client.sendCommand(["EXPIRE", this.key, this.ttl]);
  }

  /** Reads what is new. To be called together with the reading of an entry, so that both are one round trip. */
  async poll(client) {
    const asked = this.#last;
    const items = await this.#range(client, asked);
    if (asked === "-" || items[0]?.[0] !== asked) return (this.#reload ??= this.#readAll(client));
    this.#take(items);
    if (items.length === PAGE) await this.poll(client);
  }

  /** The first time, and when the item that was known last is gone: expired, evicted, lost with Redis. */
  async #readAll(client) {
    try {
      let items = await this.#range(client, "-");
      if (!items.length) items = await this.#begin(client);
      this.#last = "-";
      const oldest = timeOf(items[0][0]) - GRAIN_MS;
      for (;;) {
        this.#take(items); // passes over the one it knows already, with which the next page begins
        if (items.length < PAGE) break;
        items = await this.#range(client, this.#last);
      }
      // What was revalidated before the oldest item is unknown, so nothing older is served as fresh.
      this.state.floor = Math.max(this.state.floor, oldest);
      this.loaded = true;
    } finally {
      this.#reload = undefined;
    }
  }

  /** An item that revalidates nothing: its time is when the stream began. */
  async #begin(client) {
    await this.add(client, JSON.stringify([[], null]));
    return this.#range(client, "-");
  }

  #range(client, from) {
    return client.sendCommand(["XRANGE", this.key, from, "+", "COUNT", String(PAGE)]);
  }

  #take(items) {
    for (const [id, [, event]] of items) {
      if (this.#last !== "-" && !isAfter(id, this.#last)) continue;
      const [tags, profile] = JSON.parse(event);
      this.state.add(timeOf(id), tags, profile);
      this.#last = id;
    }
  }
}

const timeOf = (id) => Number(id.split("-")[0]) + GRAIN_MS;

function isAfter(id, other) {
  const [time, number] = id.split("-").map(Number);
  const [otherTime, otherNumber] = other.split("-").map(Number);
  return time > otherTime || (time === otherTime && number > otherNumber);
}

module.exports = { TagStream, GRAIN_MS };
