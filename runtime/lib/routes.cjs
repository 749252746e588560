"use strict";
/** The routes of a build and how each is rendered, from the manifests of Next.js 14.2 to 16. */

const INTERNAL = new Set(["/_app", "/_document", "/_error", "/_global-error", "/_not-found", "/404", "/500"]);

/**
 * @param {(name: string) => any} read returns a manifest of the build folder, or undefined
 * @returns {object[]} `{path, router, kind, rendering, revalidate, prerendered}` sorted by path:
 *   router `app` or `pages`; kind `page` or `handler`; rendering `static`, `isr`, `ppr` or `dynamic`;
 *   revalidate in seconds, null when never or decided by the first render; prerendered: paths made at build
 */
function describeRoutes(read) {
  const prerender = read("prerender-manifest.json") ?? { routes: {}, dynamicRoutes: {} };
  const found = [...appRoutes(read), ...pagesRoutes(read)].filter(({ path }) => !INTERNAL.has(path));
  return found
    .map(({ html, ...route }) => ({ ...route, ...rendering(route.path, prerender, html) }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

function appRoutes(read) {
  const entries = Object.entries(read("app-path-routes-manifest.json") ?? {});
  return entries.map(([file, path]) => ({
    path,
    router: "app",
    kind: file.endsWith("/route") ? "handler" : "page",
  }));
}

function pagesRoutes(read) {
  const entries = Object.entries(read("server/pages-manifest.json") ?? {});
  return entries.map(([path, file]) => ({
    path,
    router: "pages",
    kind: path === "/api" || path.startsWith("/api/") ? "handler" : "page",
    html: file.endsWith(".html"), // automatic static optimisation: not in the prerender manifest
  }));
}

function rendering(path, prerender, html) {
  const made = Object.entries(prerender.routes).filter(([route, entry]) => (entry.srcRoute ?? route) === path);
  const onDemand = prerender.dynamicRoutes?.[path];
  const entries = [...made.map(([, entry]) => entry), ...(onDemand ? [onDemand] : [])];
  const revalidate = shortestWindow(entries);
  return {
    rendering: kindOf(entries, revalidate, onDemand, html),
    revalidate,
    prerendered: made.map(([route]) => route).sort(),
  };
}

function kindOf(entries, revalidate, onDemand, html) {
  if (!entries.length) return html ? "static" : "dynamic";
  if (entries.some(isPartial)) return "ppr";
  // `fallback: false` means that only the paths made at build exist.
  const grows = onDemand !== undefined && onDemand.fallback !== false;
  return revalidate !== null || grows ? "isr" : "static";
}

function shortestWindow(entries) {
  const seconds = entries.map((entry) => entry.initialRevalidateSeconds ?? entry.fallbackRevalidate);
  const windows = seconds.filter(Number.isFinite);
  return windows.length ? Math.min(...windows) : null;
}

/** Partial prerendering: a static shell, the rest at request time (names differ by version). */
function isPartial(entry) {
  return (
    entry.renderingMode === "PARTIALLY_STATIC" ||
    entry.experimentalPPR === true ||
    entry.compute === "resuming" ||
    entry.response === "initial"
  );
}

module.exports = { describeRoutes };
