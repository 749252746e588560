"use strict";
/** The pages that the build has made, as a read-only source: a new release begins with them, not with misses. */
const fs = require("node:fs");
const path = require("node:path");
const { now } = require("./clock.cjs");
const { FileSystemCache } = require("./next-internals.cjs");

const TAGS_HEADER = "x-next-cache-tags";
/** serverDistDir -> its prerender-manifest.json */
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
    lifetime: found.cacheControl ?? initialLifetime(routeOf(options, key)),
  };
}

/** Whether a key is that of pages/404.js with getStaticProps, in one language or several: it has no route of its own. */
function isNotFoundPage(options, key) {
  return pageOf(key).endsWith("/404") && routeOf(options, key)?.srcRoute === null;
}

function routeOf({ serverDistDir }, key) {
  return serverDistDir ? manifestOf(serverDistDir).routes?.[pageOf(key)] : undefined;
}

/** The tags of a page or route handler: Next.js has written them into its headers. */
function tagsOf(value) {
  const header = value?.headers?.[TAGS_HEADER];
  return typeof header === "string" && header ? header.split(",") : [];
}

/** What the build says of a route whose files do not say it themselves (before 16.4, and the Pages Router). */
function initialLifetime(route) {
  if (!route) return undefined;
  return { revalidate: route.initialRevalidateSeconds, expire: route.initialExpireSeconds };
}

/** The path in a key. From 15.5 on the route stands before it: /route-cache/<kind>/<hash>/$/path */
function pageOf(key) {
  const at = key.indexOf("/$/");
  const page = at < 0 ? key : key.slice(at + 2);
  return page === "/index" ? "/" : page;
}

/** Whether the app itself asks for a page to be made anew: `res.revalidate()`. The value is a secret of the build. */
function isOnDemand({ serverDistDir }, headers) {
  const asked = headers["x-prerender-revalidate"];
  return Boolean(asked && serverDistDir) && asked === manifestOf(serverDistDir).preview?.previewModeId;
}

function manifestOf(serverDistDir) {
  if (!manifests.has(serverDistDir)) manifests.set(serverDistDir, readManifest(serverDistDir));
  return manifests.get(serverDistDir);
}

function readManifest(serverDistDir) {
  try {
    return JSON.parse(fs.readFileSync(path.join(serverDistDir, "..", "prerender-manifest.json"), "utf8"));
  } catch {
    return {};
  }
}

module.exports = { isNotFoundPage, isOnDemand, pageOf, readSeed, tagsOf };
