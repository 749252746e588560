"use strict";
/**
 * `cacheHandler` in next.config. Routes of the edge runtime have neither files nor sockets, and nothing but the
 * build can tell: it replaces NEXT_RUNTIME, and leaves out what cannot be reached. They are not cached, as without it.
 */
class NoCache {
  async get() {
    return null;
  }

  async set() {}

  async revalidateTag() {}

  resetRequestCache() {}
}

module.exports = process.env.NEXT_RUNTIME === "edge" ? NoCache : require("./shared-cache.cjs").Handler;
