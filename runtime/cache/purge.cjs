"use strict";
/**
 * Tells a CDN what this process has revalidated: a URL gets a POST, or a command gets the same JSON on its standard
 * input. Requests never wait for it. What was revalidated within a second goes together, one call at a time; each
 * waits until no proxy of this stack has the old page any more, because the CDN may ask again at once.
 */
const { setTimeout: sleep } = require("node:timers/promises");
const { tellCommand, tellUrl } = require("./purge-call.cjs");
const { EVERYTHING } = require("./tag-state.cjs");

/** Beyond this many tags the CDN is told to forget everything. */
const MOST = 1_000;
const TOGETHER_MS = 1_000;
/** Before each further try. */
const PAUSES_MS = [1_000, 2_000, 4_000, 8_000];
/** What Next.js calls a path among tags (lib/constants.js, NEXT_CACHE_IMPLICIT_TAG_ID). */
const PATH = "_N_T_";
const NAME = Symbol.for("roadbed.purge");

class Purge {
  /** "end tag" -> {tag, end}: within a second, which has that end, a tag is there once however often it comes */
  #waiting = new Map();
  #timer;
  #calling;
  #last = -Infinity;
  #hurry = new AbortController();

  /**
   * @param {object} options
   * @param {(body: string, timeoutMs: number) => Promise<void>} options.tell rejects with `{final: true}` when
   *   trying again is no use
   * @param {number} options.waitMs @param {number} options.intervalMs
   */
  constructor({ tell, app, release, waitMs, intervalMs, metrics, togetherMs = TOGETHER_MS, pausesMs = PAUSES_MS }) {
    Object.assign(this, { tell, app, release, waitMs, intervalMs, metrics, togetherMs, pausesMs });
  }

  /** @param {string[]} tags what was revalidated, as Next.js names it */
  add(tags) {
    const end = this.togetherMs * Math.ceil((Date.now() + 1) / this.togetherMs);
    for (const tag of tags) this.#waiting.set(`${end} ${tag}`, { tag, end });
    if (this.#waiting.size > MOST) {
      // One entry for each second that had any: none of them is put off by those that come later.
      const ends = new Set([...this.#waiting.values()].map((each) => each.end));
      this.#waiting.clear();
      for (const each of ends) this.#waiting.set(`${each} ${EVERYTHING}`, { tag: EVERYTHING, end: each });
    }
    this.#plan();
  }

  get pending() {
    return Boolean(this.#calling || this.#waiting.size);
  }

  /** To be called when the process ends: what waits is told, once, and nothing is tried again. */
  async flush() {
    clearTimeout(this.#timer);
    this.flushing = true;
    this.#hurry.abort();
    await this.#calling;
    while (this.#waiting.size) {
      await sleep(Math.max(0, this.#due() - Date.now()));
      await this.#call();
    }
  }

  #due() {
    const ends = [...this.#waiting.values()].map(({ end }) => end);
    return Math.min(...ends) + this.waitMs;
  }

  #plan() {
    if (this.#timer || this.#calling || this.flushing || !this.pending) return;
    const soonest = Math.max(this.#due(), this.#last + this.intervalMs);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#calling = this.#call().finally(() => {
        this.#calling = undefined;
        this.#plan();
      });
    }, soonest - Date.now()).unref();
  }

  #take() {
    const latest = Date.now() - this.waitMs;
    const taken = [];
    for (const [key, { tag, end }] of this.#waiting) {
      if (end > latest) continue;
      this.#waiting.delete(key);
      taken.push(tag);
    }
    const all = new Set(taken);
    return { everything: all.delete(EVERYTHING), all: [...all] };
  }

  async #call() {
    const { everything, all } = this.#take();
    if (!everything && !all.length) return;
    this.#last = Date.now();
    const { app, release } = this;
    const tags = all.filter((tag) => !tag.startsWith(PATH));
    const paths = all.filter((tag) => tag.startsWith(PATH)).map((tag) => tag.slice(PATH.length));
    try {
      await this.#deliver(JSON.stringify({ app, release, everything, tags, paths }));
      this.metrics.purged += 1;
    } catch (error) {
      this.metrics.purge_failed += 1;
      const what = everything ? "everything" : `${all.length} tags and paths, ${all.slice(0, 3).join(", ")}`;
      console.error(`roadbed: purge: the CDN was not told of ${what}: ${error.message}`);
    }
  }

  async #deliver(body) {
    for (let turn = 0; ; turn += 1) {
      try {
        return await this.tell(body, this.flushing ? 5_000 : 10_000);
      } catch (error) {
        if (error.final || this.flushing || turn >= this.pausesMs.length) throw error;
        await sleep(this.pausesMs[turn], undefined, { ref: false, signal: this.#hurry.signal }).catch(() => {});
      }
    }
  }
}

/** @returns {Purge | undefined} the one of this process; undefined when nobody is to be told */
function startPurge(env, metrics) {
  const { ROADBED_PURGE_URL: url, ROADBED_PURGE_COMMAND: command, ROADBED_PURGE_TOKEN: token } = env;
  if ((!url && !command) || env.NEXT_PHASE === "phase-production-build") return undefined;
  const options = {
    tell: url ? tellUrl(new URL(url), token) : tellCommand(JSON.parse(command), token),
    app: env.ROADBED_APP ?? null,
    release: env.ROADBED_RELEASE ?? null,
    waitMs: 1_000 * Number(env.ROADBED_PURGE_WAIT_SECONDS || 0),
    intervalMs: 1_000 * Number(env.ROADBED_PURGE_INTERVAL_SECONDS || 1),
    metrics,
  };
  return (globalThis[NAME] ??= new Purge(options));
}

module.exports = { Purge, startPurge };
