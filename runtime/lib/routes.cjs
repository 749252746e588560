"use strict";
/** The routes of a build and how each is rendered, from the manifests of Next.js 14.2 to 16. */

const INTERNAL = new Set(["/_app", "/_document", "/_error", "/_global-error", "/_not-found", "/404", "/500"]);

/**
 * @param {(name: string) => any} read returns a manifest of the build folder, or undefined
 * @returns {object[]} `{path, router, kind, rendering, revalidate, prerendered}` sorted by path:
 *   router `app` or `pages`; kind `page` or `handler`; rendering `static`, `isr`, `ppr` or `dynamic`;
 *   revalidate in seconds, null when never or decided by the first render; prerendered: paths made at build, as a
 *   visitor asks for them, without the base path
 */
function describeRoutes(read) {
  const prerender = read("prerender-manifest.json") ?? { routes: {}, dynamicRoutes: {} };
  const site = siteOf(read("required-server-files.json")?.config);
  const found = [...appRoutes(read), ...pagesRoutes(read, site)].filter(({ path }) => !INTERNAL.has(path));
  return found
    .map(({ html, ...route }) => ({ ...route, ...rendering(route, prerender, html, site) }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/**
 * How the Pages Router spells addresses: `bare` takes the language off a path that the build has made,
 * `asked` makes it the one without a redirect.
 */
function siteOf({ i18n, trailingSlash } = {}) {
  const language = (path) => i18n?.locales.find((locale) => `${path}/`.startsWith(`/${locale}/`));
  const bare = (path) => (language(path) ? path.slice(language(path).length + 1) || "/" : path);
  return {
    bare,
    asked(path, router) {
      const usual = router === "pages" && language(path) === i18n?.defaultLocale ? bare(path) : path;
      return trailingSlash && !usual.endsWith("/") && !/\.[^/]+$/.test(usual) ? `${usual}/` : usual;
    },
  };
}

function appRoutes(read) {
  const entries = Object.entries(read("app-path-routes-manifest.json") ?? {});
  return entries.map(([file, path]) => ({
    path,
    router: "app",
    kind: file.endsWith("/route") ? "handler" : "page",
  }));
}

/** In several languages a page without data is there once for each, and counts once. */
function pagesRoutes(read, { bare }) {
  const entries = Object.entries(read("server/pages-manifest.json") ?? {});
  const found = entries.map(([path, file]) => ({
    path: bare(path),
    router: "pages",
    kind: path === "/api" || path.startsWith("/api/") ? "handler" : "page",
    html: file.endsWith(".html"), // automatic static optimisation: not in the prerender manifest
  }));
  return [...new Map(found.map((route) => [route.path, route])).values()];
}

function rendering({ path, router }, prerender, html, { bare, asked }) {
  const owner = (made, entry) => entry.srcRoute ?? (router === "pages" ? bare(made) : made);
  const made = Object.entries(prerender.routes).filter(([route, entry]) => owner(route, entry) === path);
  const onDemand = prerender.dynamicRoutes?.[path];
  const entries = [...made.map(([, entry]) => entry), ...(onDemand ? [onDemand] : [])];
  const revalidate = shortestWindow(entries);
  return {
    rendering: kindOf(entries, revalidate, onDemand, html),
    revalidate,
    prerendered: made.map(([route]) => asked(route, router)).sort(),
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
