"use strict";
/**
 * Whether the answer to a path may depend on more than URL and cookies: because middleware (proxy.ts) looks at the
 * request first, because a redirect or rewrite has a condition on headers, or because the Pages Router chooses the
 * language. Nothing in the answer tells, so a shared cache must not keep it, whatever its s-maxage says.
 */
const fs = require("node:fs");
const path = require("node:path");

/** @returns {(url: string) => boolean} for a path with or without a query */
function guardedPaths(folder = distFolder()) {
  const guards = guardsOf(folder);
  if (!guards) return () => true; // unknown: nothing is kept
  const { patterns, home, basePath } = guards;
  return (url) => {
    const place = url.split("?", 1)[0];
    const inside = basePath && place.startsWith(basePath) ? place.slice(basePath.length) || "/" : place;
    return home.includes(place) || patterns.some((pattern) => pattern.test(place) || pattern.test(inside));
  };
}

/** Whether a build guards any path; told to those who check what is kept. */
function isGuarded(folder) {
  const guards = guardsOf(folder);
  return !guards || guards.patterns.length + guards.home.length > 0;
}

function guardsOf(folder) {
  const read = (name) => readJson(path.join(folder, name));
  const routes = read("routes-manifest.json");
  if (!routes) return undefined;
  const proxies = [
    ...Object.values(read("server/middleware-manifest.json")?.middleware ?? {}),
    read("server/functions-config-manifest.json")?.functions?.["/_middleware"],
  ].filter(Boolean);
  // A proxy without a matcher is for every path.
  const sources = proxies.flatMap((proxy) => proxy.matchers?.map((matcher) => matcher.regexp) ?? ["^"]);
  const rewrites = Array.isArray(routes.rewrites) ? routes.rewrites : Object.values(routes.rewrites ?? {}).flat();
  const conditional = [...(routes.redirects ?? []), ...rewrites].filter(({ has, missing }) =>
    [...(has ?? []), ...(missing ?? [])].some(({ type }) => type === "header" || type === "host"),
  );
  const patterns = [...sources, ...conditional.map(({ regex }) => regex)].map((source) => new RegExp(source));
  const { basePath = "", i18n } = routes;
  const home = i18n && i18n.localeDetection !== false ? [basePath || "/", `${basePath}/`] : [];
  return { patterns, home, basePath };
}

/** server.js gives its configuration to Next.js by this variable, in every version from 14.2 on. */
function distFolder() {
  let name = ".next";
  try {
    name = JSON.parse(process.env.__NEXT_PRIVATE_STANDALONE_CONFIG).distDir ?? name;
  } catch {}
  return path.resolve(name);
}

function readJson(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

module.exports = { guardedPaths, isGuarded };
