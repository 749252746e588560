"use strict";
/**
 * Puts the cache handlers into the project, for the build to take them in. Turbopack gives up on files outside
 * the project, and webpack leaves them out of the standalone server.
 */
const fs = require("node:fs");
const path = require("node:path");

const FOLDER = path.join("node_modules", ".roadbed");
/** Beside the adapter, when the release builder has made them (releases/runtime_files.py). */
const SOURCE = path.join(__dirname, "..", "cache");
const HANDLER = "cache-handler.cjs";
const USE_CACHE = "use-cache.cjs";
const BUNDLE = "shared-cache.cjs";

/**
 * @param {string} folder an absolute path: where the project resolves its packages from
 * @param {string} [source] the folder of the finished handlers
 * @returns {{cacheHandler: string, useCache: string} | undefined} absolute paths; undefined without handlers
 */
function placeCacheFiles(folder, source = SOURCE) {
  if (!fs.existsSync(path.join(source, BUNDLE))) return undefined;
  const target = path.join(folder, FOLDER);
  fs.mkdirSync(target, { recursive: true });
  for (const name of [HANDLER, USE_CACHE, BUNDLE]) place(path.join(source, name), path.join(target, name));
  return { cacheHandler: path.join(target, HANDLER), useCache: path.join(target, USE_CACHE) };
}

/** Each process of a build does this, so a file is never seen half written. */
function place(source, target) {
  const content = fs.readFileSync(source);
  if (fs.existsSync(target) && content.equals(fs.readFileSync(target))) return;
  const partial = `${target}.${process.pid}`;
  fs.writeFileSync(partial, content);
  fs.renameSync(partial, target);
}

module.exports = { placeCacheFiles };
