"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { describeRoutes } = require("../lib/routes.cjs");

const manifests = {
  "app-path-routes-manifest.json": {
    "/_not-found/page": "/_not-found",
    "/page": "/",
    "/api/info/route": "/api/info",
    "/sale/page": "/sale",
    "/products/[id]/page": "/products/[id]",
    "/docs/[slug]/page": "/docs/[slug]",
    "/labels/[id]/route": "/labels/[id]",
    "/shell/page": "/shell",
    "/shell15/page": "/shell15",
  },
  "server/pages-manifest.json": {
    "/_app": "pages/_app.js",
    "/404": "pages/404.html",
    "/about": "pages/about.html",
    "/legacy": "pages/legacy.js",
    "/api/old": "pages/api/old.js",
    "/old-isr": "pages/old-isr.js",
  },
  "prerender-manifest.json": {
    routes: {
      "/": { initialRevalidateSeconds: false, srcRoute: "/" },
      "/sale": { initialRevalidateSeconds: 5, srcRoute: "/sale" },
      "/products/1": { initialRevalidateSeconds: 60, srcRoute: "/products/[id]" },
      "/products/2": { initialRevalidateSeconds: 60, srcRoute: "/products/[id]" },
      "/docs/a": { initialRevalidateSeconds: false, srcRoute: "/docs/[slug]" },
      "/shell": { initialRevalidateSeconds: 900, srcRoute: "/shell", response: "initial", compute: "resuming" },
      "/shell15": { initialRevalidateSeconds: false, srcRoute: "/shell15", experimentalPPR: true },
      "/old-isr": { initialRevalidateSeconds: 30, srcRoute: null },
    },
    dynamicRoutes: {
      "/products/[id]": { fallback: null },
      "/docs/[slug]": { fallback: false },
      "/labels/[id]": { fallback: null },
    },
  },
};

const found = describeRoutes((name) => manifests[name]);
const route = (path) => found.find((entry) => entry.path === path);

test("each route has its rendering", () => {
  const expected = {
    "/": ["static", null],
    "/about": ["static", null],
    "/api/info": ["dynamic", null],
    "/api/old": ["dynamic", null],
    "/docs/[slug]": ["static", null],
    "/labels/[id]": ["isr", null],
    "/legacy": ["dynamic", null],
    "/old-isr": ["isr", 30],
    "/products/[id]": ["isr", 60],
    "/sale": ["isr", 5],
    "/shell": ["ppr", 900],
    "/shell15": ["ppr", null],
  };
  const actual = found.map(({ path, rendering, revalidate }) => [path, [rendering, revalidate]]);
  assert.deepEqual(actual, Object.entries(expected));
});

test("pages, handlers and routers are told apart", () => {
  assert.deepEqual([route("/api/info").kind, route("/api/info").router], ["handler", "app"]);
  assert.deepEqual([route("/api/old").kind, route("/api/old").router], ["handler", "pages"]);
  assert.deepEqual([route("/sale").kind, route("/legacy").kind], ["page", "page"]);
});

test("the paths made at build are listed", () => {
  assert.deepEqual(route("/products/[id]").prerendered, ["/products/1", "/products/2"]);
});

test("a build with one router only is fine", () => {
  assert.deepEqual(describeRoutes(() => undefined), []);
});

test("in several languages a route counts once, and its paths are those without a redirect", () => {
  const several = {
    "required-server-files.json": {
      config: { trailingSlash: true, i18n: { locales: ["en", "de", "de-AT"], defaultLocale: "en" } },
    },
    "server/pages-manifest.json": {
      "/_app": "pages/_app.js",
      "/": "pages/index.js",
      "/404": "pages/404.js",
      "/books/[slug]": "pages/books/[slug].js",
      "/en/500": "pages/en/500.html",
      "/de/500": "pages/de/500.html",
      "/en/about": "pages/en/about.html",
      "/de/about": "pages/de/about.html",
      "/demo": "pages/demo.js",
    },
    "prerender-manifest.json": {
      routes: {
        "/en": { initialRevalidateSeconds: 5, srcRoute: null },
        "/de-AT": { initialRevalidateSeconds: 5, srcRoute: null },
        "/en/404": { initialRevalidateSeconds: false, srcRoute: null },
        "/en/books/dune": { initialRevalidateSeconds: 60, srcRoute: "/books/[slug]" },
        "/de/books/dune": { initialRevalidateSeconds: 60, srcRoute: "/books/[slug]" },
        "/de/books/list.txt": { initialRevalidateSeconds: 60, srcRoute: "/books/[slug]" },
      },
      dynamicRoutes: { "/books/[slug]": { fallback: null } },
    },
  };
  const described = describeRoutes((name) => several[name]);
  assert.deepEqual(
    described.map(({ path, rendering, prerendered }) => [path, rendering, ...prerendered]),
    [
      ["/", "isr", "/", "/de-AT/"],
      ["/about", "static"],
      ["/books/[slug]", "isr", "/books/dune/", "/de/books/dune/", "/de/books/list.txt"],
      ["/demo", "dynamic"],
    ],
  );
});
