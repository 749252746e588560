"use strict";
/** `cacheHandlers.default` and `.remote` in next.config; for the edge runtime see `cache-handler.cjs`. */
const nothing = {
  get: async () => undefined,
  set: async () => {},
  refreshTags: async () => {},
  getExpiration: async () => 0,
  updateTags: async () => {},
  expireTags: async () => {},
};

module.exports = process.env.NEXT_RUNTIME === "edge" ? nothing : require("./shared-cache.cjs").useCache;
