"use strict";
/**
 * `cacheHandler` of Next.js, shared through Redis: pages of both routers, route handlers, fetch, unstable_cache.
 * https://nextjs.org/docs/app/api-reference/config/next-config-js/incrementalCacheHandlerPath
 * Next.js makes one for each request, and decides itself from `lastModified` and `cacheControl` whether an
 * entry is served, served while a new one is made, or made anew first.
 */
const { now } = require("./clock.cjs");
const { learnLifetime } = require("./next-internals.cjs");
const { readSeed, tagsOf } = require("./seed.cjs");

/** Next.js compares with a clock that may lag: what shall be stale is so by this much, ms. */
const MARGIN_MS = 1_000;
/** Content older than this beyond its time comes from memory or the build only while Redis is away, ms. */
const TOO_OLD_MS = 86_400_000;
const YEAR_SECONDS = 31_536_000;
/** A request is shorter than this, ms: how old the start of a render can be when nobody has asked before it. */
const REQUEST_MS = 60_000;

/** @param {object} shared what `shared.cjs` puts together */
function makeHandler({ store, tags, clock, flight, metrics, release }) {
  return class SharedCache {
    /** key -> when its making began, ms. What is revalidated while a page is made counts as later than the page. */
    #started = new Map();
    #created = now();

    constructor(options = {}) {
      this.options = options;
      const headers = options._requestHeaders ?? {};
      // Next.js answers these from a stale entry, and makes no new one (response-cache/index.js).
      this.prefetch = headers.purpose === "prefetch" || headers["next-router-prefetch"] === "1";
    }

    async get(key, context = {}) {
      const data = isData(context);
      const name = nameOf(key, data);
      const { entry, away } = await this.#find(name, key, context, data);
      const verdict = entry ? verdictOf(entry, context, data) : "missing";
      if (verdict === "fresh") {
        metrics.hit += 1;
        return this.#answer(key, entry);
      }
      if (verdict === "stale") return this.#stale(name, key, entry, revalidateOf(entry, context, data));
      metrics[entry ? "expired" : "miss"] += 1;
      // A missing fetch is not waited for: when its source fails it is never stored.
      if (!away && !this.prefetch && (entry || !data)) {
        const good = (other) => verdictOf(other, context, data) !== "expired";
        const made = await flight.orWait(name, entry, good);
        if (made) return this.#answer(key, made);
      }
      this.#begin(key);
      return null;
    }

    /** From Redis, or memory, or the build. The latter two are put into Redis, unless it has something newer. */
    async #find(name, key, context, data) {
      const { entry, away, old } = await store.read(name);
      if (entry && !old) return { entry, away };
      const seed = entry || data ? undefined : await readSeed(this.options, key, context, clock);
      const found = entry ?? seed;
      if (!found || away) return { entry: found, away };
      const late = clock.shared(now()) - found.made - 1000 * (found.lifetime?.revalidate || YEAR_SECONDS);
      if (late > TOO_OLD_MS) return { entry: undefined, away };
      if (seed) metrics.seeded += 1;
      void store.write(name, found, { unlessThere: true });
      return { entry: found, away };
    }

    async #stale(name, key, entry, revalidate) {
      metrics.stale += 1;
      const { mine, newer } = this.prefetch ? { mine: true } : await flight.turn(name, entry);
      if (newer) return this.#answer(key, newer);
      // Somebody makes it anew: for this instance it is as good as fresh, for a moment.
      if (!mine) return this.#answer(key, { ...entry, made: clock.shared(now()) }, 1);
      this.#begin(key);
      const seconds = typeof revalidate === "number" && revalidate > 0 ? revalidate : 1;
      const latest = clock.shared(now()) - seconds * 1000 - MARGIN_MS;
      return this.#answer(key, { ...entry, made: Math.min(entry.made, latest) }, seconds);
    }

    #answer(key, { value, made, lifetime }, revalidate = lifetime?.revalidate) {
      const cacheControl = revalidate === undefined ? lifetime : { ...lifetime, revalidate };
      if (value?.kind !== "FETCH") learnLifetime(key, cacheControl);
      return { value, lastModified: clock.local(made), cacheControl };
    }

    #begin(key) {
      this.#started.set(key, now());
    }

    async set(key, value, context = {}) {
      metrics.set += 1;
      const data = value?.kind === "FETCH" || context.fetchCache === true;
      const young = now() - this.#created < REQUEST_MS;
      const begun = this.#started.get(key) ?? (young ? this.#created : now());
      this.#started.delete(key);
      const lifetime = data ? { revalidate: value?.revalidate } : lifetimeOf(context);
      if (!data) learnLifetime(key, lifetime);
      const all = [...new Set([...(context.tags ?? []), ...tagsOf(value)])];
      await store.write(nameOf(key, data), { value, made: clock.shared(begun), tags: all, lifetime });
    }

    /** @param {string | string[]} names @param {{expire?: number}} [profile] Next.js 16: seconds until it expires */
    async revalidateTag(names, profile) {
      const list = [names].flat().filter((name) => typeof name === "string" && name);
      if (list.length) await tags.revalidate(list, profile);
    }

    resetRequestCache() {}
  };

  function nameOf(key, data) {
    return data ? `data:${key}` : `${release}:page:${key}`;
  }

  function verdictOf(entry, context, data) {
    const all = [...entry.tags, ...(context.tags ?? []), ...(context.softTags ?? [])];
    const revalidate = revalidateOf(entry, context, data);
    const verdict = tags.judge(all, entry.made);
    if (verdict === "expired") return verdict;
    const age = clock.shared(now()) - entry.made;
    if (typeof entry.lifetime?.expire === "number" && age > entry.lifetime.expire * 1000) return "expired";
    return typeof revalidate === "number" && age > revalidate * 1000 ? "stale" : verdict;
  }
}

/** Whether it is of fetch or unstable_cache, which outlive a release. 14 calls the kind by another name. */
function isData({ kind, kindHint, fetchCache }) {
  return (kind ?? kindHint ?? "").toLowerCase() === "fetch" || fetchCache === true;
}

/** Next.js 15 and later say `cacheControl`, 14 says `revalidate`. */
function lifetimeOf({ cacheControl, revalidate }) {
  return cacheControl ?? (revalidate === undefined ? undefined : { revalidate });
}

/** Seconds, or false for never: of a fetch, what the caller asks for comes first, as in Next.js. */
function revalidateOf(entry, context, data) {
  return data ? context.revalidate || entry.value?.revalidate : entry.lifetime?.revalidate;
}

module.exports = { makeHandler };
