"use strict";
/**
 * What is known of revalidated tags, and what that means for an entry. No Redis here: `tags.cjs` fills it.
 * All times in ms by the clock of Redis.
 */

/** Revalidates everything: stands for revalidations that were too many to remember. */
const EVERYTHING = "*";

class TagState {
  /** tag -> {expired, stale, due: {at, when} | null} */
  #tags = new Map();

  /**
   * @param {number} limit tags to remember
   * @param {number} floor entries made before it may have been revalidated by somebody unknown
   */
  constructor(limit, floor) {
    this.limit = limit;
    this.floor = floor;
  }

  get size() {
    return this.#tags.size;
  }

  /**
   * @param {number} at when
   * @param {string[]} tags
   * @param {{expire?: number} | null} profile null: at once; otherwise stale at once, and expired `expire` seconds
   *   later, if ever (`revalidateTag(tag, profile)`)
   */
  add(at, tags, profile) {
    for (const tag of tags) {
      const known = this.#settled(tag, at) ?? { expired: 0, stale: 0, due: null };
      this.#tags.delete(tag); // moves it to the end: the newest
      const expired = Math.max(known.expired, at);
      this.#tags.set(tag, profile ? withProfile(known, at, profile) : { ...known, expired });
    }
    for (const [tag, { expired, stale }] of this.#tags) {
      if (this.#tags.size <= this.limit) break;
      this.#tags.delete(tag);
      this.floor = Math.max(this.floor, expired, stale);
    }
  }

  /** @returns {"fresh" | "stale" | "expired"} for an entry with these tags whose making began at `made` */
  judge(tags, made, now) {
    let verdict = made <= this.floor ? "stale" : "fresh";
    for (const tag of [EVERYTHING, ...tags]) {
      const known = this.#settled(tag, now);
      if (!known) continue;
      if (known.expired >= made) return "expired";
      if (known.stale >= made) verdict = "stale";
    }
    return verdict;
  }

  /** When one of the tags last expired; 0 for never. */
  lastExpired(tags, now) {
    return Math.max(0, ...[EVERYTHING, ...tags].map((tag) => this.#settled(tag, now)?.expired ?? 0));
  }

  /** The state of a tag; an expiry that was announced is in force once its time has come. */
  #settled(tag, now) {
    const known = this.#tags.get(tag);
    if (!known?.due || known.due.when > now) return known;
    Object.assign(known, { expired: Math.max(known.expired, known.due.at), due: null });
    return known;
  }
}

function withProfile(known, at, { expire }) {
  const stale = Math.max(known.stale, at);
  if (typeof expire !== "number" || !Number.isFinite(expire)) return { ...known, stale };
  // Of two announcements one is kept: for entries older than the later one, at the earlier of both times.
  const when = Math.min(at + expire * 1000, known.due?.when ?? Infinity);
  return { ...known, stale, due: { at, when } };
}

module.exports = { TagState, EVERYTHING };
