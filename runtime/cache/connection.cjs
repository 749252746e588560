"use strict";
/**
 * The connection to Redis. Nothing here throws or waits longer than the time allowed: a call returns what
 * Redis said, or AWAY. After three failures in a row nobody asks for a while (a circuit breaker); then one
 * call tries again.
 */
const { complain } = require("./metrics.cjs");

/** The answer when there is none. */
const AWAY = Symbol("away");
const FAILURES = 3;
/** Failed tries after which the connection is made anew: the other end may be gone without a word. */
const TRIES = 3;
const RECONNECT_MS = 1_000;
/** Requests of the first moment may wait so long for the connection; a process that loads an app is busy. */
const FIRST_MS = 500;
/** Answers of a server that is not the master, or not yet: the master is elsewhere. */
const ELSEWHERE = /^(READONLY|LOADING|MASTERDOWN) /;

class Connection {
  #client;
  #failures = 0;
  #tries = 0;
  #openUntil = 0;
  #trying = false;
  #first = true;
  #opened = 0;

  /**
   * @param {object} options
   * @param {() => object} options.connect makes a client of @redis/client
   * @param {(error: Error) => boolean} options.isReply whether Redis itself has sent the error
   * @param {() => void} options.ready called on each connect
   */
  constructor({ connect, isReply, timeoutMs, breakerMs, metrics, ready }) {
    Object.assign(this, { connect, isReply, timeoutMs, breakerMs, metrics, ready });
    this.#open();
  }

  #open() {
    this.#opened = performance.now();
    setTimeout(() => (this.#first = false), FIRST_MS).unref();
    const client = (this.#client = this.connect());
    client.on("error", (error) => this.#lost(client, error));
    client.on("ready", () => this.#found(client));
    client.connect().catch(() => {}); // told by the event
    client.unref();
  }

  #found(client) {
    if (client !== this.#client) return;
    this.#failures = this.#tries = this.#openUntil = 0;
    this.#trying = this.#first = false;
    this.#tell();
    this.ready();
  }

  #lost(client, error) {
    if (client !== this.#client) return;
    this.#first = false;
    this.metrics.error += 1;
    this.#tell(error.code || error.message || "the connection broke");
    complain("connection", `${this.metrics.reason}; entries are kept in memory meanwhile`);
  }

  /** What health and monitoring are told: whether Redis answers, and else why not. */
  #tell(reason) {
    this.metrics.connected = !reason;
    this.metrics.reason = reason ?? "";
  }

  /** Whether Redis counts as lost. One answer that is late does not make it so. */
  get down() {
    return !this.#client.isReady || this.#failures >= FAILURES;
  }

  /**
   * @template T
   * @param {(client: object) => Promise<T>} ask
   * @returns {Promise<T | typeof AWAY>}
   */
  async run(ask, timeoutMs = this.timeoutMs) {
    await this.#firstChance();
    const client = this.#client;
    const trying = this.#failures >= FAILURES;
    if (!client.isReady || (trying && (this.#trying || performance.now() < this.#openUntil))) return AWAY;
    this.#trying = trying;
    const begun = performance.now();
    try {
      const answer = await withTimeout(ask(client), timeoutMs);
      this.#failures = this.#tries = 0;
      if (!this.metrics.connected) this.#tell();
      this.metrics.latency_ms_sum += performance.now() - begun;
      this.metrics.latency_ms_count += 1;
      return answer;
    } catch (error) {
      this.#failed(client, error);
      return AWAY;
    } finally {
      if (trying) this.#trying = false;
    }
  }

  /** While the first try to connect lasts. */
  async #firstChance() {
    while (this.#first) await new Promise((done) => setTimeout(done, 5));
  }

  #failed(client, error) {
    this.metrics.error += 1;
    if (this.isReply(error)) {
      this.#failures = 0; // out of memory, not permitted: the server is there
      if (ELSEWHERE.test(error.message) && performance.now() > this.#opened + RECONNECT_MS) this.#again(client);
      return complain("reply", error.message);
    }
    complain("answer", error.message);
    if (client !== this.#client) return;
    this.#failures += 1;
    if (this.#failures < FAILURES) return;
    this.#tell(error.message);
    this.#openUntil = performance.now() + this.breakerMs;
    this.#tries += 1;
    if (this.#tries % TRIES === 0) this.#again(client);
  }

  #again(client) {
    if (client !== this.#client || !client.isReady) return;
    this.#open();
    client.destroy();
  }
}

/**
 * Rejects when `answer` takes longer. A process that was busy has its timers run before it reads its sockets,
 * so an answer may lie there unread: one more turn of the event loop decides.
 */
function withTimeout(answer, ms) {
  return new Promise((resolve, reject) => {
    const late = () => reject(new Error(`no answer within ${ms} ms`));
    const timer = setTimeout(() => setImmediate(late), ms);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** How long to wait before connecting again, ms: quick at first, and never all instances at once. */
function reconnectDelay(retries) {
  return Math.min(25 * 2 ** retries, RECONNECT_MS) * (0.75 + Math.random() / 4);
}

module.exports = { Connection, AWAY, withTimeout, reconnectDelay };
