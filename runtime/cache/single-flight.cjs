"use strict";
/**
 * One instance makes an entry anew, whichever was first; the others serve the old one, or wait a moment for the
 * new one. https://redis.io/docs/latest/commands/set/ (NX, PX) is the lease; it ends by itself when its holder
 * dies.
 */
const { setTimeout: sleep } = require("node:timers/promises");

const POLL_MS = 30;
/** Names that were waited for in vain, at most. */
const REMEMBERED = 1_000;

class SingleFlight {
  /** name -> until when nobody here waits for it again */
  #vain = new Map();

  constructor({ store, metrics, leaseMs, waitMs }) {
    Object.assign(this, { store, metrics, leaseMs, waitMs });
  }

  /**
   * For an entry that may be served while a new one is made: whether this process is to make it. When Redis is
   * away, each for itself; when it was only late, the next request asks again.
   * @returns {Promise<{mine: boolean, newer: object | undefined}>} `newer`: another instance has just made it
   */
  async turn(name, entry) {
    const { lease, newer } = await this.store.lease(name, this.leaseMs, entry.made);
    if (lease === "lost") this.metrics.lock_lost += 1;
    return { mine: lease === "won" || lease === "away", newer };
  }

  /**
   * For an entry that may not be served: the one that another instance has made meanwhile, if it has.
   * @param {object | undefined} entry
   * @param {(entry: object) => boolean} good
   * @returns {Promise<{mine: boolean, newer: object | undefined}>} `mine`: this process has the lease
   */
  async orWait(name, entry, good) {
    const end = Date.now() + this.waitMs;
    const { lease, newer } = await this.#lease(name, entry, end);
    if (lease !== "lost") return { mine: lease === "won", newer: undefined };
    this.metrics.lock_lost += 1;
    if (newer && good(newer)) return { mine: false, newer };
    const nothing = { mine: false, newer: undefined };
    if ((this.#vain.get(name) ?? 0) > Date.now()) return nothing;
    while (Date.now() < end) {
      await sleep(POLL_MS);
      const { entry: made, away, old } = await this.store.read(name);
      if (away) return nothing;
      if (made && !old && good(made)) {
        this.metrics.waited += 1;
        return { mine: false, newer: made };
      }
    }
    // What is being made there may be of a kind that is never stored.
    if (this.#vain.size >= REMEMBERED) this.#vain.clear();
    this.#vain.set(name, Date.now() + this.leaseMs);
    return nothing;
  }

  /** Asks again while Redis is merely late. */
  async #lease(name, entry, end) {
    for (;;) {
      const answer = await this.store.lease(name, this.leaseMs, entry?.made ?? 0);
      if (answer.lease !== "late" || Date.now() >= end) return answer;
    }
  }
}

module.exports = { SingleFlight };
