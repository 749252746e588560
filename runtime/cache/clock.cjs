"use strict";
/**
 * Time in ms since 1970, by two clocks. Next.js compares with this process's own (`performance`, which lags
 * behind Date.now() when the system's clock is set). Entries and revalidations are of several machines, so
 * what is stored is by the clock of Redis.
 */

/** Next.js 15 and later use exactly this sum (server/lib/incremental-cache/index.js). */
const now = () => performance.timeOrigin + performance.now();

const SAMPLES = 5;

class Clock {
  /** Ms that the clock of Redis is ahead. */
  offset = 0;

  /**
   * The quickest of a few answers says most. A difference that the way alone could explain is none: hosts with
   * NTP, and processes on one host, then agree exactly.
   * @param {() => Promise<[string, string]>} ask for the answer of TIME: seconds, microseconds
   */
  async measure(ask) {
    let best = { way: Infinity, offset: 0 };
    for (let n = 0; n < SAMPLES; n += 1) {
      const before = now();
      const [seconds, micros] = await ask();
      const after = now();
      const offset = Number(seconds) * 1000 + Number(micros) / 1000 - (before + after) / 2;
      if (after - before < best.way) best = { way: after - before, offset };
    }
    this.offset = Math.abs(best.offset) <= best.way / 2 + 1 ? 0 : best.offset;
  }

  /** A time of this process, by the clock of Redis. */
  shared(local) {
    return local + this.offset;
  }

  /** A time by the clock of Redis, as this process would have read it. */
  local(shared) {
    return shared - this.offset;
  }
}

module.exports = { Clock, now };
