"use strict";
/**
 * `cacheHandlers` of Next.js, shared through Redis: 'use cache' and 'use cache: remote'.
 * https://nextjs.org/docs/app/api-reference/config/next-config-js/cacheHandlers
 * Keys name a function of one build, so entries belong to a release.
 */
const { now } = require("./clock.cjs");

/** @param {object} shared what `shared.cjs` puts together */
function makeUseCache({ store, tags, clock, flight, metrics, release }) {
  /** name -> the storing that a reader has to wait for (cache-handlers/types.d.ts) */
  const pending = new Map();
  const nameOf = (key) => `${release}:use:${key}`;

  async function get(key, softTags = []) {
    const name = nameOf(key);
    await pending.get(name);
    const { entry, away } = await store.read(name);
    const good = (other) => verdictOf(other, softTags) !== "expired";
    if (!entry || !good(entry)) {
      metrics[entry ? "expired" : "miss"] += 1;
      const made = entry && !away ? (await flight.orWait(name, entry, good)).newer : undefined;
      return made && answer(made);
    }
    const verdict = verdictOf(entry, softTags);
    metrics[verdict === "fresh" ? "hit" : "stale"] += 1;
    if (verdict === "fresh") return answer(entry);
    const { mine, newer } = await flight.turn(name, entry);
    if (newer) return answer(newer);
    // Somebody makes it anew: for this instance it is as good as fresh, for a moment.
    if (!mine) return answer({ ...entry, made: clock.shared(now()) });
    return answer(entry, -1); // serve it, and make a new one
  }

  function verdictOf({ made, tags: own, lifetime }, softTags) {
    const verdict = tags.judge([...own, ...softTags], made);
    const age = clock.shared(now()) - made;
    if (verdict === "expired" || age > lifetime.expire * 1000) return "expired";
    return age > lifetime.revalidate * 1000 ? "stale" : verdict;
  }

  function answer({ value, made, tags: own, lifetime }, revalidate = lifetime.revalidate) {
    const stream = new ReadableStream({
      start(controller) {
        controller.enqueue(new Uint8Array(value));
        controller.close();
      },
    });
    return { ...lifetime, revalidate, tags: own, timestamp: clock.local(made), value: stream };
  }

  async function set(key, pendingEntry) {
    const name = nameOf(key);
    const stored = keep(name, pendingEntry).catch(() => {}); // a stream that broke: the next reader makes it anew
    pending.set(name, stored);
    await stored;
    if (pending.get(name) === stored) pending.delete(name);
  }

  async function keep(name, pendingEntry) {
    const { value: stream, timestamp, tags: own, ...lifetime } = await pendingEntry;
    if (lifetime.expire === 0) return; // Next.js never serves it
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    metrics.set += 1;
    await store.write(name, { value: Buffer.concat(chunks), made: clock.shared(timestamp), tags: own, lifetime });
  }

  return {
    get,
    set,
    /** Before the first read of a request: what other instances have revalidated. */
    refreshTags: () => tags.refresh(),
    /** 16 gives a list, 15 gives words. */
    getExpiration: async (...names) => tags.lastExpired(names.flat()),
    updateTags: (names, profile) => tags.revalidate([names].flat(), profile),
    /** The name of updateTags in 15. */
    expireTags: (...names) => tags.revalidate(names.flat()),
  };
}

module.exports = { makeUseCache };
