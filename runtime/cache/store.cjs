"use strict";
/**
 * Entries by name, in Redis and in the memory of this process. An entry is
 * `{value, made, tags, lifetime}`: `made` is when its making began, ms by the clock of Redis; `lifetime` is
 * Next.js' `{revalidate, expire}` in seconds.
 */
const { createHash } = require("node:crypto");
const { AWAY } = require("./connection.cjs");
const { complain } = require("./metrics.cjs");
const { decode, encode } = require("./values.cjs");

const LONG_NAME = 256;
/** No entry goes at once: another instance may just be about to read it. */
const SHORTEST_TTL = 60;

class Store {
  constructor({ connection, tags, memory, metrics, getBytes, root, entryBytes, maxAgeSeconds }) {
    Object.assign(this, { connection, tags, memory, metrics, getBytes, root, entryBytes, maxAgeSeconds });
  }

  /**
   * The entry, and what was revalidated meanwhile, in one round trip.
   * @returns {Promise<{entry: object | undefined, away: boolean, old: boolean}>} `away`: Redis is lost, each for
   *   itself. `old`: from memory although Redis, where it belongs, has answered: it may have been replaced long ago.
   */
  async read(name) {
    const key = this.#key(name);
    const answer = await this.connection.run((client) =>
      Promise.all([this.getBytes(client, key), this.tags.stream.poll(client)]),
    );
    const answered = answer !== AWAY;
    const away = !answered && this.connection.down;
    if (!answered) this.metrics.fallback += 1;
    const entry = answered && answer[0] ? decode(answer[0]) : undefined;
    const kept = this.memory.get(name);
    if (entry) return { entry: this.#newer(name, kept, entry, answer[0]), away, old: false };
    const old = answered && kept !== undefined && kept.bytes.length <= this.entryBytes;
    return { entry: kept && decode(kept.bytes), away, old };
  }

  /** What is kept here may be newer than what Redis has, which was away when it was made: then Redis gets it now. */
  #newer(name, kept, entry, bytes) {
    const own = kept && kept.made > entry.made ? decode(kept.bytes) : undefined;
    if (own) void this.write(name, own);
    else this.memory.set(name, bytes, entry.made);
    return own ?? entry;
  }

  /**
   * Stores an entry and gives back the lease on it. `unlessThere` is for what is not new.
   * Never rejects: what cannot be stored is a miss for the next reader.
   */
  async write(name, entry, { unlessThere = false } = {}) {
    const bytes = this.#encode(name, entry);
    const commands = unlessThere ? [] : [["DEL", this.#lease(name)]];
    if (bytes) {
      const ttl = String(this.#ttl(entry.lifetime));
      commands.unshift(["SET", this.#key(name), bytes, "EX", ttl, ...(unlessThere ? ["NX"] : [])]);
    }
    await this.connection.run((client) => Promise.all(commands.map((command) => client.sendCommand(command))));
  }

  /** The bytes for Redis, if they can go there; in memory they are in any case. */
  #encode(name, entry) {
    try {
      const bytes = encode(entry);
      this.memory.set(name, bytes, entry.made);
      if (bytes.length <= this.entryBytes) return bytes;
      this.metrics.too_large += 1;
      complain("size", `${name}: ${bytes.length} bytes are kept in memory, not in Redis`);
    } catch (error) {
      this.metrics.error += 1;
      complain("value", `${name}: ${error.message}`);
    }
    return undefined;
  }

  /**
   * The right to make an entry anew, for `ms`. Somebody may have done so since it was read, and have given the
   * lease back; so the entry is looked at again, in the same round trip.
   * @param {number} known when the entry was made that the caller has; 0 for none
   * @returns {Promise<{lease: "won" | "lost" | "late" | "away", newer: object | undefined}>}
   */
  async lease(name, ms, known) {
    const set = ["SET", this.#lease(name), "1", "NX", "PX", String(ms)];
    const answer = await this.connection.run((client) =>
      Promise.all([client.sendCommand(set), this.getBytes(client, this.#key(name))]),
    );
    if (answer === AWAY) return { lease: this.connection.down ? "away" : "late" };
    const [won, bytes] = answer;
    const entry = bytes ? decode(bytes) : undefined;
    const newer = entry && entry.made > known ? entry : undefined;
    if (won && newer) void this.connection.run((client) => client.sendCommand(["DEL", this.#lease(name)]));
    return { lease: won && !newer ? "won" : "lost", newer };
  }

  /** Gives back the lease on an entry that is not made after all. */
  async giveBack(name) {
    await this.connection.run((client) => client.sendCommand(["DEL", this.#lease(name)]));
  }

  #ttl(lifetime) {
    const expire = lifetime?.expire;
    if (typeof expire !== "number" || !Number.isFinite(expire)) return this.maxAgeSeconds;
    return Math.max(SHORTEST_TTL, Math.min(this.maxAgeSeconds, Math.ceil(expire)));
  }

  #key(name) {
    return this.root + short(name);
  }

  #lease(name) {
    return `${this.root}lease:${short(name)}`;
  }
}

/** Names come from URLs and arguments of functions, and may be long. */
function short(name) {
  return name.length <= LONG_NAME ? name : `${name.slice(0, 64)}#${createHash("sha256").update(name).digest("hex")}`;
}

module.exports = { Store };
