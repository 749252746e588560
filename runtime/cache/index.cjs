"use strict";
/**
 * The cache of a release, decided when it starts: shared through the Redis of ROADBED_CACHE_URL, or Next.js' own.
 * `releases/runtime_files.py` makes one file of it, `shared-cache.cjs`; `entry/` is what Next.js is told of.
 */
const { readConfig } = require("./config.cjs");
const { localHandler, localUseCache } = require("./local.cjs");
const { startMetrics } = require("./metrics.cjs");
const { startPurge } = require("./purge.cjs");
const { startShared } = require("./shared.cjs");

const NAME = Symbol.for("roadbed.cache.handlers");

function start() {
  const config = readConfig(process.env);
  const metrics = startMetrics(config ? "shared" : "local");
  const purge = startPurge(process.env, metrics);
  if (config) return startShared(config, metrics, purge);
  return {
    Handler: localHandler(purge),
    /** Next.js makes its own handler just before it asks for this one. */
    get useCache() {
      return localUseCache();
    },
  };
}

module.exports = globalThis[NAME] ??= start();
