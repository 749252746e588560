"use strict";
/**
 * `cacheHandler` of Next.js, shared through Redis: pages of both routers, route handlers, fetch, unstable_cache.
 * https://nextjs.org/docs/app/api-reference/config/next-config-js/incrementalCacheHandlerPath
 * Next.js makes one for each request, and decides itself from `lastModified` and `cacheControl` whether an
 * entry is served, served while a new one is made, or made anew first.
 */
const { now } = require("./clock.cjs");
const { learnLifetime } = require("./next-internals.cjs");
const { isNotFoundPage, isOnDemand, pageOf, readSeed, tagsOf } = require("./seed.cjs");

/** Next.js compares with a clock that may lag: what shall be stale is so by this much, ms. */
const MARGIN_MS = 1_000;
/** Content older than this beyond its time comes from memory or the build only while Redis is away, ms. */
const TOO_OLD_MS = 86_400_000;
const YEAR_SECONDS = 31_536_000;
/** What Next.js calls a path among tags (lib/constants.js, NEXT_CACHE_IMPLICIT_TAG_ID). */
const PATH_TAG = "_N_T_";
/** A request is shorter than this, ms: how old the start of a render can be when nobody has asked before it. */
const REQUEST_MS = 60_000;

/** @param {object} shared what `shared.cjs` puts together */
function makeHandler({ store, tags, clock, flight, metrics, release }) {
  /** headers of a request -> the names that it is to make: Next.js may make a second handler for the same request */
  const toMake = new WeakMap();

  return class SharedCache {
    /** key -> when its making began, ms. What is revalidated while a page is made counts as later than the page. */
    #started = new Map();
    /** key -> value that was handed out for as long as a new one is made */
    #stale = new Map();
    #created = now();

    constructor(options = {}) {
      this.options = options;
      const headers = options._requestHeaders ?? {};
      this.headers = headers;
      // Next.js answers these from a stale entry, and makes no new one (response-cache/index.js).
      this.prefetch = headers.purpose === "prefetch" || headers["next-router-prefetch"] === "1";
      this.onDemand = isOnDemand(options, headers);
    }

    async get(key, context = {}) {
      const data = isData(context);
      const name = nameOf(key, data);
      if (isPages(context)) await this.#beforePage(key, context);
      const { entry, away } = await this.#find(name, key, context, data);
      const judge = (other) => this.#judge(key, other, context, data);
      const verdict = entry ? judge(entry) : "missing";
      if (verdict === "fresh") {
        metrics.hit += 1;
        return this.#answer(key, entry);
      }
      if (verdict === "stale") return this.#whileMade(name, key, entry, revalidateOf(entry, context, data));
      metrics[entry ? "expired" : "miss"] += 1;
      // A missing fetch is not waited for: when its source fails it is never stored.
      if (!away && !this.prefetch && (entry || !data)) {
        const { newer, mine } = await flight.orWait(name, entry, (other) => judge(other) !== "expired");
        if (newer) return this.#answer(key, newer);
        if (mine) toMake.set(this.headers, [...(toMake.get(this.headers) ?? []), name]);
      }
      this.#begin(key);
      return null;
    }

    /** @returns {"fresh" | "stale" | "expired"} */
    #judge(key, entry, context, data) {
      const { expire } = entry.lifetime ?? {};
      const revalidate = revalidateOf(entry, context, data);
      const verdict = this.#judgeTags(key, entry, context);
      const age = clock.shared(now()) - entry.made;
      if (verdict === "expired" || (typeof expire === "number" && age > expire * 1000)) return "expired";
      return typeof revalidate === "number" && age > revalidate * 1000 ? "stale" : verdict;
    }

    #judgeTags(key, entry, context) {
      const all = [...entry.tags, ...(context.tags ?? []), ...(context.softTags ?? [])];
      if (!isPages(context)) return tags.judge(all, entry.made);
      // It is shown under every address. Made anew for a visitor, it would tell all others the address of that one.
      if (isNotFoundPage(this.options, key)) return "fresh";
      return tags.judge([...all, PATH_TAG + pageOf(key)], entry.made);
    }

    /**
     * What the Pages Router has of its own. `fallback: true`: a first visitor gets a page to wait on, and nothing is
     * made yet, so whoever asks next is to make it. `res.revalidate()`: these pages have no tags, so an older one,
     * of the build or kept while Redis was away, could come back later. Told as a revalidation of the path, it is
     * stale for everybody.
     */
    async #beforePage(key, { isFallback }) {
      if (isFallback) {
        for (const name of toMake.get(this.headers) ?? []) void store.giveBack(name);
        toMake.delete(this.headers);
      } else if (this.onDemand) {
        await tags.revalidate([PATH_TAG + pageOf(key)], {});
        this.#begin(key);
      }
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

    async #whileMade(name, key, entry, revalidate) {
      metrics.stale += 1;
      const { mine, newer } = this.prefetch ? { mine: true } : await flight.turn(name, entry);
      if (newer) return this.#answer(key, newer);
      // Somebody makes it anew: for this instance it is as good as fresh, for a moment.
      if (!mine) return this.#answer(key, { ...entry, made: clock.shared(now()) }, 1);
      this.#begin(key);
      this.#stale.set(key, entry);
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
      const lifetime = data ? { revalidate: value?.revalidate } : this.#lifetime(key, value, context);
      if (!data) learnLifetime(key, lifetime);
      const all = [...new Set([...(context.tags ?? []), ...tagsOf(value)])];
      await store.write(nameOf(key, data), { value, made: clock.shared(begun), tags: all, lifetime });
    }

    /**
     * When a page cannot be made anew, Next.js stores the one it had and tries again in some seconds, for ever. One
     * that the build has made for good stays so: perhaps it can be made there alone.
     */
    #lifetime(key, value, context) {
      const had = this.#stale.get(key);
      const forGood = had && had.value === value && had.lifetime?.revalidate === false;
      return forGood ? had.lifetime : lifetimeOf(context);
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
}

/** Whether it is of fetch or unstable_cache, which outlive a release. 14 calls the kind by another name. */
function isData({ kind, kindHint, fetchCache }) {
  return (kind ?? kindHint ?? "").toLowerCase() === "fetch" || fetchCache === true;
}

/** Whether it is of the Pages Router. */
function isPages({ kind, kindHint }) {
  return (kind ?? kindHint ?? "").toLowerCase() === "pages";
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
