"use strict";
/**
 * What the app depends on, as far as the runtime can tell: `{"cache": {"status": "degraded", "reason": ...}}`.
 * It explains, and takes no instance out of service: the others depend on the same.
 */
const { askDatabase, parseDatabaseUrl } = require("./postgres.cjs");

/** Set by ../cache/metrics.cjs when the app has loaded its cache handler. */
const CACHE = Symbol.for("roadbed.cache");
const AGAIN_MS = 10_000;
const ANSWER_MS = 3_000;

class Checks {
  #database;
  #found = { status: "unknown" };
  #asked = 0;

  /** @param {{DATABASE_URL?: string}} env the database is asked when this is the URL of a PostgreSQL server */
  constructor(env) {
    this.#database = parseDatabaseUrl(env.DATABASE_URL);
  }

  /** The state as last seen. Whoever looks has it seen again, in the background and at most every 10 s. */
  look() {
    this.#askDatabase();
    const cache = cacheState(globalThis[CACHE]);
    return { ...(cache && { cache }), ...(this.#database && { database: this.#found }) };
  }

  #askDatabase() {
    const now = performance.now();
    if (!this.#database || (this.#asked && now - this.#asked < AGAIN_MS)) return;
    this.#asked = now;
    askDatabase(this.#database, ANSWER_MS).then((reason) => {
      this.#found = reason ? { status: "degraded", reason } : { status: "ok" };
    });
  }
}

function cacheState(metrics) {
  if (!metrics) return undefined;
  if (metrics.mode !== "shared" || metrics.connected) return { status: "ok" };
  if (!metrics.reason) return { status: "unknown" }; // still connecting
  return { status: "degraded", reason: `Redis: ${metrics.reason}; this instance keeps what it makes to itself` };
}

module.exports = { Checks };
