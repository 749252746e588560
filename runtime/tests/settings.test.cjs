"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { applySettings } = require("../lib/settings.cjs");

const MIB = 1024 * 1024;
// As Next.js 16.4 hands it over: complete, and keys without a value are present.
const complete = (own = {}) => ({ output: undefined, deploymentId: undefined, images: { maximumDiskCacheSize: undefined }, ...own });

test("a plain project gets output, deployment id and a bounded image cache", () => {
  const config = complete();
  assert.deepEqual(applySettings(config, { ROADBED_RELEASE: "20260101-ab12" }), []);
  assert.equal(config.output, "standalone");
  assert.equal(config.deploymentId, "20260101-ab12");
  assert.equal(config.images.maximumDiskCacheSize, 256 * MIB);
});

test("the app's own settings win, and the build log says so", () => {
  const config = complete({ output: "standalone", deploymentId: "mine", images: { maximumDiskCacheSize: 0 } });
  assert.deepEqual(applySettings(config, { ROADBED_RELEASE: "r1" }), [
    "kept the app's own deploymentId (mine)",
    "kept the app's own images.maximumDiskCacheSize (0)",
  ]);
  assert.equal(config.deploymentId, "mine");
  assert.equal(config.images.maximumDiskCacheSize, 0);
});

test("a version that does not know the image key does not get it", () => {
  const config = complete({ images: { minimumCacheTTL: 60 } });
  applySettings(config, {});
  assert.deepEqual(config.images, { minimumCacheTTL: 60 });
});

test("a version that names builds at random takes the release's id, unless the app has a name", async () => {
  const config = complete({ generateBuildId: () => null });
  applySettings(config, { ROADBED_RELEASE: "r1" });
  assert.equal(await config.generateBuildId(), "r1");
  const named = complete({ generateBuildId: async () => "mine" });
  applySettings(named, { ROADBED_RELEASE: "r1" });
  assert.equal(await named.generateBuildId(), "mine");
  const later = complete();
  applySettings(later, { ROADBED_RELEASE: "r1" });
  assert.equal(later.generateBuildId, undefined);
});

test("the image cache can be sized", () => {
  const config = complete();
  applySettings(config, { ROADBED_IMAGE_CACHE_MIB: "64" });
  assert.equal(config.images.maximumDiskCacheSize, 64 * MIB);
});

test("the defaults of Next.js are not changed for other builds in the process", () => {
  const images = Object.freeze({ maximumDiskCacheSize: undefined });
  applySettings(complete({ images }), {});
  assert.equal(images.maximumDiskCacheSize, undefined);
});

test("a static export is refused with the way out", () => {
  assert.throws(() => applySettings(complete({ output: "export" }), {}), /next\.config: output: "export".*Remove it/s);
});

test("unusable environment values are refused", () => {
  assert.throws(() => applySettings(complete(), { ROADBED_RELEASE: "a b" }), /ROADBED_RELEASE: "a b"/);
  assert.throws(() => applySettings(complete(), { ROADBED_IMAGE_CACHE_MIB: "lots" }), /ROADBED_IMAGE_CACHE_MIB/);
});

test("without a release there is no deployment id", () => {
  const config = complete();
  applySettings(config, {});
  assert.equal(config.deploymentId, undefined);
});

const handlers = { cacheHandler: "/p/cache-handler.cjs", useCache: "/p/use-cache.cjs" };

test("the cache handlers go where the version has them", () => {
  const none = { default: undefined, remote: undefined, static: undefined };
  const sixteen = complete({ cacheHandlers: none, cacheComponents: true });
  assert.deepEqual(applySettings(sixteen, {}, handlers), []);
  assert.equal(sixteen.cacheHandler, "/p/cache-handler.cjs");
  assert.deepEqual(sixteen.cacheHandlers, { default: "/p/use-cache.cjs", remote: "/p/use-cache.cjs" });
  const fifteen = complete({ experimental: { useCache: true, cacheHandlers: { default: undefined } } });
  applySettings(fifteen, {}, handlers);
  assert.deepEqual(fifteen.experimental.cacheHandlers, { default: "/p/use-cache.cjs", remote: "/p/use-cache.cjs" });
  const without = complete({ cacheHandlers: none, experimental: {} });
  applySettings(without, {}, handlers);
  assert.deepEqual(without.cacheHandlers, none, "'use cache' is off");
  const older = complete({ experimental: {} });
  applySettings(older, {}, handlers);
  assert.equal(older.cacheHandler, "/p/cache-handler.cjs");
  assert.deepEqual(older.experimental, {});
});

test("the app's own cache handlers win, and the build log says what that means", () => {
  const own = { default: undefined, remote: "./remote.js" };
  const config = complete({ cacheHandler: "./mine.js", cacheHandlers: own, cacheComponents: true });
  assert.deepEqual(applySettings(config, {}, handlers), [
    "kept the app's own cacheHandler (./mine.js): Roadbed does not share what it caches",
    "kept the app's own cacheHandlers (remote): Roadbed does not share what it caches",
  ]);
  assert.equal(config.cacheHandler, "./mine.js");
  assert.deepEqual(config.cacheHandlers, { default: "/p/use-cache.cjs", remote: "./remote.js" });
});

test("without handlers nothing changes", () => {
  const config = complete({ cacheHandlers: { default: undefined }, cacheComponents: true });
  applySettings(config, {});
  assert.equal(config.cacheHandler, undefined);
  assert.deepEqual(config.cacheHandlers, { default: undefined });
});

test("assets come from where the environment says, and the optimiser may fetch imported images there", () => {
  const own = [{ hostname: "photos.example.com" }];
  const config = complete({ assetPrefix: "/shop", basePath: "/shop", images: { remotePatterns: own } });
  assert.deepEqual(applySettings(config, { ROADBED_ASSET_PREFIX: "https://cdn.example.com:8443/x" }), []);
  assert.equal(config.assetPrefix, "https://cdn.example.com:8443/x");
  const there = { protocol: "https", hostname: "cdn.example.com", port: "8443" };
  assert.deepEqual(config.images.remotePatterns, [...own, there]);
  assert.equal(own.length, 1, "the project's own list is not changed in place");
});

test("the app's own asset prefix wins", () => {
  const config = complete({ assetPrefix: "https://mine.example.com", basePath: "" });
  assert.deepEqual(applySettings(config, { ROADBED_ASSET_PREFIX: "https://cdn.example.com" }), [
    "kept the app's own assetPrefix (https://mine.example.com)",
  ]);
  assert.equal(config.assetPrefix, "https://mine.example.com");
  const same = complete({ assetPrefix: "https://mine.example.com", basePath: "" });
  assert.deepEqual(applySettings(same, { ROADBED_ASSET_PREFIX: "https://mine.example.com" }), []);
});
