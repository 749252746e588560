"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { test } = require("node:test");
const { guardedPaths } = require("../lib/guarded.cjs");

/** `guardedPaths` of a build with these manifests. */
function of(t, { routes = {}, middleware, functions }) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "guarded-"));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  fs.mkdirSync(path.join(folder, "server"));
  const write = (name, data) => fs.writeFileSync(path.join(folder, name), JSON.stringify(data));
  write("routes-manifest.json", { basePath: "", redirects: [], rewrites: [], ...routes });
  if (middleware) write("server/middleware-manifest.json", { middleware });
  if (functions) write("server/functions-config-manifest.json", { functions });
  return guardedPaths(folder);
}

test("nothing is guarded in an app without any of it", (t) => {
  const guarded = of(t, { middleware: {}, functions: {} });
  assert.equal(guarded("/"), false);
  assert.equal(guarded("/products/1?x=2"), false);
});

test("middleware guards the paths of its matchers, in both places where a build names it", (t) => {
  const matchers = [{ regexp: "^/account(?:/.*)?$" }];
  for (const build of [
    { middleware: { "/": { matchers } } },
    { functions: { "/_middleware": { runtime: "nodejs", matchers } } },
  ]) {
    const guarded = of(t, build);
    assert.equal(guarded("/account/orders?page=2"), true);
    assert.equal(guarded("/products/1"), false);
  }
  assert.equal(of(t, { functions: { "/_middleware": {} } })("/anything"), true);
});

test("conditions on headers guard, those on cookies and queries are seen by nginx itself", (t) => {
  const rule = (type) => ({ regex: "^/offer$", has: [{ type, key: "x-country" }] });
  assert.equal(of(t, { routes: { redirects: [rule("header")] } })("/offer"), true);
  assert.equal(of(t, { routes: { rewrites: { beforeFiles: [rule("host")], afterFiles: [], fallback: [] } } })("/offer"), true);
  assert.equal(of(t, { routes: { redirects: [rule("cookie"), rule("query")] } })("/offer"), false);
});

test("the page that chooses a language is guarded, unless the app does not detect it", (t) => {
  const i18n = { locales: ["en", "de"], defaultLocale: "en" };
  const guarded = of(t, { routes: { i18n, basePath: "/shop" } });
  assert.deepEqual([guarded("/shop"), guarded("/shop/"), guarded("/shop/de")], [true, true, false]);
  assert.equal(of(t, { routes: { i18n: { ...i18n, localeDetection: false } } })("/"), false);
});

test("a build that cannot be read keeps nothing", () => {
  assert.equal(guardedPaths("/nowhere")("/"), true);
});
