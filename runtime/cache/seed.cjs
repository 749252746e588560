"use strict";
/** The pages that the build has made, as a read-only source: a new release begins with them, not with misses. */
const fs = require("node:fs");
const path = require("node:path");
const { now } = require("./clock.cjs");
const { FileSystemCache } = require("./next-internals.cjs");

const TAGS_HEADER = "x-next-cache-tags";
/** serverDistDir -> the routes of its prerender-manifest.json */
const manifests = new Map();

/**
 * @param {object} options what Next.js gives a cache handler
 * @param {string} key @param {object} context of a page or a route handler
 * @param {import("./clock.cjs").Clock} clock
 * @returns {Promise<object | undefined>} an entry as `store.cjs` has it
 */
async function readSeed(options, key, context, clock) {
  if (!FileSystemCache || !options.serverDistDir) return undefined;
  const files = new FileSystemCache({ ...options, flushToDisk: false, maxMemoryCacheSize: 0 });
  const found = await files.get(key, context).catch(() => undefined);
  if (!found?.value) return undefined;
  return {
    value: found.value,
    made: clock.shared(found.lastModified ?? now()),
    tags: tagsOf(found.value),
    lifetime: found.cacheControl ?? initialLifetime(options.serverDistDir, key),
  };
}

/** The tags of a page or route handler: Next.js has written them into its headers. */
function tagsOf(value) {
  const header = value?.headers?.[TAGS_HEADER];
  return typeof header === "string" && header ? header.split(",") : [];
}

/** What the build says of a route whose files do not say it themselves (before 16.4, and the Pages Router). */
function initialLifetime(serverDistDir, key) {
  if (!manifests.has(serverDistDir)) manifests.set(serverDistDir, readRoutes(serverDistDir));
  // Keys are paths; from 15.5 on with the route before them: /route-cache/<kind>/<hash>/$/path
  const at = key.indexOf("/$/");
  const page = at < 0 ? key : key.slice(at + 2);
  const route = manifests.get(serverDistDir)[page === "/index" ? "/" : page];
  if (!route) return undefined;
  return { revalidate: route.initialRevalidateSeconds, expire: route.initialExpireSeconds };
}

function readRoutes(serverDistDir) {
  try {
    return JSON.parse(fs.readFileSync(path.join(serverDistDir, "..", "prerender-manifest.json"), "utf8")).routes ?? {};
  } catch {
    return {};
  }
}

module.exports = { readSeed, tagsOf };
