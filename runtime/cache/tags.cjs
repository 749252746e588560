"use strict";
/** Revalidated tags: what they mean for an entry, and how a revalidation gets to all instances. */
const { AWAY } = require("./connection.cjs");
const { now } = require("./clock.cjs");
const { complain } = require("./metrics.cjs");
const { EVERYTHING, TagState } = require("./tag-state.cjs");
const { GRAIN_MS, TagStream } = require("./tag-stream.cjs");

const TAGS = 50_000;
/** Revalidations that wait for Redis to come back. */
const QUEUE = 1_000;
const RETRY_MS = 1_000;
/** Revalidations are rare and must arrive, and reading all of the stream is a lot: they may take longer. */
const PATIENCE = 5;

class Tags {
  #queue = [];
  #sending = new Map();
  #retry;
  #begun = now();
  #state = new TagState(TAGS, 0);

  constructor({ connection, clock, metrics, root, maxAgeSeconds, purge }) {
    Object.assign(this, { connection, clock, metrics, purge });
    this.stream = new TagStream({ root, maxAgeSeconds, state: this.#state });
  }

  /** What other instances have revalidated, without reading an entry. */
  async refresh(patience = 1) {
    await this.connection.run((client) => this.stream.poll(client), this.connection.timeoutMs * patience);
  }

  /** @returns {"fresh" | "stale" | "expired"} `made` by the clock of Redis */
  judge(tags, made) {
    const verdict = this.#state.judge(tags, made, this.clock.shared(now()));
    // Before the first answer of Redis nothing is known of what was revalidated.
    const unknown = !this.stream.loaded && made <= this.clock.shared(this.#begun);
    return verdict === "fresh" && unknown ? "stale" : verdict;
  }

  /** When one of the tags last expired, ms by the clock of this process; 0 for never. */
  lastExpired(tags) {
    const at = this.#state.lastExpired(tags, this.clock.shared(now()));
    return at && this.clock.local(at);
  }

  /** Next.js calls each handler with the same tags: what is on its way is not sent twice. */
  async revalidate(tags, profile) {
    const event = JSON.stringify([tags, profile ?? null]);
    if (!this.#sending.has(event)) {
      this.#sending.set(event, this.#send(event).finally(() => this.#sending.delete(event)));
    }
    return this.#sending.get(event);
  }

  async #send(event) {
    this.#state.add(this.clock.shared(now()), ...JSON.parse(event)); // at once for this process, whatever Redis says
    const time = await this.#add(event);
    if (time !== AWAY) {
      this.#purge(event);
      return this.#pass(time);
    }
    this.metrics.tags_queued += 1;
    this.#queue.push(event);
    if (this.#queue.length > QUEUE) this.#revalidateEverything();
    complain("tags", `${this.#queue.length} revalidations wait for Redis; other instances do not know of them yet`);
    this.#retry ??= setInterval(() => void this.replay(), RETRY_MS).unref();
  }

  #revalidateEverything() {
    this.metrics.tags_dropped += this.#queue.length;
    this.#queue = [JSON.stringify([[EVERYTHING], null])];
    this.#state.add(this.clock.shared(now()), [EVERYTHING], null);
  }

  /** A CDN is told when all instances know: it may ask any of them. */
  #purge(event) {
    this.purge?.add(JSON.parse(event)[0]);
  }

  /** Returns when `time` is over: what the caller makes now is later than what it has revalidated. */
  async #pass(time) {
    const rest = Math.min(time - this.clock.shared(now()), 5 * GRAIN_MS);
    if (rest >= 0) await new Promise((done) => setTimeout(done, Math.ceil(rest) + 1));
  }

  #add(event) {
    return this.connection.run((client) => this.stream.add(client, event), this.connection.timeoutMs * PATIENCE);
  }

  /** Sends what waits, in order, as soon as Redis takes it. Sending twice would do no harm. */
  async replay() {
    const count = this.#queue.length;
    while (this.#queue.length) {
      const [event] = this.#queue;
      if ((await this.#add(event)) === AWAY) return;
      if (this.#queue[0] === event) this.#queue.shift();
      this.#purge(event);
      this.metrics.tags_replayed += 1;
    }
    clearInterval(this.#retry);
    this.#retry = undefined;
    if (count) console.log(`roadbed: shared cache: sent ${count} revalidations that had waited for Redis`);
  }

  /** To be called on each connect: early, so that no request has to wait for all of the stream. */
  async connected() {
    await this.refresh(PATIENCE);
    await this.replay();
  }
}

module.exports = { Tags };
