"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { readConfig } = require("../cache/config.cjs");

const env = (own) => ({ ROADBED_CACHE_URL: "redis://u:secret@h:1", ROADBED_APP: "shop", ROADBED_RELEASE: "r-1", ...own });

test("without an address, and in every build, nothing is shared", () => {
  assert.equal(readConfig({}), null);
  assert.equal(readConfig(env({ NEXT_PHASE: "phase-production-build" })), null);
});

test("defaults", () => {
  const { url, ...rest } = readConfig(env());
  assert.equal(url, "redis://u:secret@h:1");
  assert.deepEqual(rest, {
    sentinels: [],
    master: "",
    app: "shop",
    release: "r-1",
    timeoutMs: 100,
    breakerMs: 2000,
    leaseMs: 10000,
    waitMs: 1000,
    maxAgeSeconds: 2592000,
    memoryBytes: 32 * 1024 * 1024,
    entryBytes: 8 * 1024 * 1024,
  });
});

test("every number can be set, and nonsense is refused", () => {
  assert.equal(readConfig(env({ ROADBED_CACHE_TIMEOUT_MS: "40" })).timeoutMs, 40);
  assert.equal(readConfig(env({ ROADBED_CACHE_MEMORY_MIB: "0" })).memoryBytes, 0);
  assert.throws(() => readConfig(env({ ROADBED_CACHE_TIMEOUT_MS: "soon" })), /ROADBED_CACHE_TIMEOUT_MS: soon/);
  assert.throws(() => readConfig(env({ ROADBED_CACHE_LEASE_MS: "0" })), /at least 1/);
});

test("a wrong address is refused without repeating it", () => {
  for (const url of ["http://h", "redis://", "h:6379", "nonsense secret"]) {
    assert.throws(
      () => readConfig(env({ ROADBED_CACHE_URL: url })),
      (error) => /^ROADBED_CACHE_URL: .*redis:\/\/user/.test(error.message) && !error.message.includes("secret"),
    );
  }
});

test("app and release become parts of keys, so they are words", () => {
  assert.throws(() => readConfig(env({ ROADBED_APP: "" })), /^Error: ROADBED_APP: "" cannot be part/);
  assert.throws(() => readConfig(env({ ROADBED_RELEASE: "a:b" })), /ROADBED_RELEASE: "a:b"/);
  assert.throws(() => readConfig(env({ ROADBED_RELEASE: undefined })), /ROADBED_RELEASE/);
});

test("Sentinels and the name of their master", () => {
  const group = (ROADBED_CACHE_SENTINELS, ROADBED_CACHE_MASTER = "cache") =>
    readConfig(env({ ROADBED_CACHE_SENTINELS, ROADBED_CACHE_MASTER }));
  const { sentinels, master } = group("10.0.0.1:26379, [fd00::2]:1,cache-3.example:26379");
  assert.deepEqual(sentinels, [
    { host: "10.0.0.1", port: 26379 },
    { host: "fd00::2", port: 1 },
    { host: "cache-3.example", port: 26379 },
  ]);
  assert.equal(master, "cache");
  assert.throws(() => group("10.0.0.1"), /^Error: ROADBED_CACHE_SENTINELS: "10.0.0.1" is not host:port/);
  assert.throws(() => group("10.0.0.1:1", ""), /^Error: ROADBED_CACHE_MASTER/);
});
