"use strict";
/**
 * The parts of Next.js that the cache leans on. They are no public interface, so each may be missing. The paths
 * are literal, and each `require` stands in a `try` of its own: that is how a build finds the files, takes them
 * into the standalone server, and passes over those that a version does not have.
 */
let FileSystemCache;
let SharedCacheControls;
let SharedRevalidateTimings;
let createDefaultCacheHandler;
let defaultCacheHandler;

/** Next.js' own cache on disk. */
try {
  FileSystemCache = require("next/dist/server/lib/incremental-cache/file-system-cache").default;
} catch {}
/** How long routes live, as this process knows it: 15 and 16. */
try {
  ({ SharedCacheControls } = require("next/dist/server/lib/incremental-cache/shared-cache-controls.external"));
} catch {}
/** The same in 14. */
try {
  ({ SharedRevalidateTimings } = require("next/dist/server/lib/incremental-cache/shared-revalidate-timings"));
} catch {}
/** Next.js' own handler of 'use cache': 16. */
try {
  ({ createDefaultCacheHandler } = require("next/dist/server/lib/cache-handlers/default"));
} catch {}
/** The same in 15. */
try {
  defaultCacheHandler = require("next/dist/server/lib/cache-handlers/default.external").default;
} catch {}

/**
 * Tells Next.js how long an entry lives that another instance has made: without that it assumes one second.
 * 16.4 reads it from the entry itself.
 */
function learnLifetime(key, lifetime) {
  if (lifetime?.revalidate === undefined) return;
  const route = key.startsWith("/route-cache/") ? key : key.replace(/(?:\/index)?\/?$/, "") || "/";
  SharedCacheControls?.cacheControls?.set(route, lifetime);
  SharedRevalidateTimings?.timings?.set(route, lifetime.revalidate);
}

/** The handler of 'use cache' that Next.js has made for itself before it asks for ours. */
function builtInUseCache() {
  const made = globalThis[Symbol.for("@next/cache-handlers-map")]?.get("default");
  return made ?? createDefaultCacheHandler?.(50 * 1024 * 1024) ?? defaultCacheHandler;
}

module.exports = { FileSystemCache, learnLifetime, builtInUseCache };
