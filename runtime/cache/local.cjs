"use strict";
/** What an app has without a shared cache: exactly what Next.js would use if Roadbed had set no handler. */
const { FileSystemCache, builtInUseCache } = require("./next-internals.cjs");

/** The bound that Next.js sets itself for fetches, but not for handlers of others (incremental-cache/index.js). */
const MOST_CHARACTERS = 2 * 1024 * 1024;

/** @param {import("./purge.cjs").Purge} [purge] told of what was revalidated */
function localHandler(purge) {
  if (!FileSystemCache) {
    throw new Error("next/dist/server/lib/incremental-cache: is unknown to this version of Roadbed. Upgrade Roadbed.");
  }
  return class LocalCache extends FileSystemCache {
    async set(key, value, context = {}) {
      if (context.fetchCache && !context.isImplicitBuildTimeCache && JSON.stringify(value).length > MOST_CHARACTERS) {
        return void console.warn(`fetch of ${context.fetchUrl ?? key} is not cached: it is larger than 2 MB`);
      }
      return super.set(key, value, context);
    }

    async revalidateTag(names, ...profile) {
      await super.revalidateTag(names, ...profile);
      purge?.add([names].flat().filter((name) => typeof name === "string" && name));
    }
  };
}

module.exports = { localHandler, localUseCache: builtInUseCache };
