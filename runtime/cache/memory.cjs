"use strict";
/**
 * Encoded entries in the memory of this process, bounded in bytes; the least recently used goes first.
 * It answers while Redis is away, and holds what is too large for Redis.
 */

/** What an entry costs besides its bytes and its key, roughly. */
const OVERHEAD = 200;

class Memory {
  #entries = new Map();
  #bytes = 0;

  /** @param {number} limit in bytes; 0 keeps nothing */
  constructor(limit) {
    this.limit = limit;
  }

  get bytes() {
    return this.#bytes;
  }

  /** @returns {{bytes: Buffer, made: number} | undefined} `made` as it was given to `set` */
  get(key) {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  /** Keeps a copy of `bytes`, unless it has the entry that was `made` then already. */
  set(key, bytes, made) {
    if (this.#entries.get(key)?.made === made) return;
    this.delete(key);
    const cost = bytes.length + key.length + OVERHEAD;
    if (cost > this.limit) return;
    // A copy: what the Redis client hands over is a view on a larger buffer of its socket.
    this.#entries.set(key, { bytes: Buffer.from(bytes), made, cost });
    this.#bytes += cost;
    for (const [oldest] of this.#entries) {
      if (this.#bytes <= this.limit) break;
      this.delete(oldest);
    }
  }

  delete(key) {
    this.#bytes -= this.#entries.get(key)?.cost ?? 0;
    this.#entries.delete(key);
  }
}

module.exports = { Memory };
