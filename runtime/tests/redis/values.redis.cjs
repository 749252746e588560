"use strict";
// What one instance stores another gets, exactly; and what lies in Redis is bounded and apart.
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { startReplica, startReplicas } = require("./replica.cjs");
const { startRedis } = require("./server.cjs");

const everyByte = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
const tagged = (tags) => ({ "x-next-cache-tags": tags });
const kinds = {
  APP_PAGE: {
    kind: "APP_PAGE",
    html: `<p>${"é€😀".repeat(5000)}</p>`,
    rscData: everyByte,
    postponed: undefined,
    headers: tagged("a,b"),
    status: 200,
    segmentData: new Map([["/_tree", everyByte], ["/page", Buffer.alloc(0)]]),
  },
  APP_ROUTE: { kind: "APP_ROUTE", body: everyByte, headers: { "content-type": "image/png" }, status: 200 },
  PAGES: { kind: "PAGES", html: "<p>", pageData: { pageProps: { n: null, list: [1.5] } }, headers: {}, status: 200 },
  REDIRECT: { kind: "REDIRECT", props: { pageProps: { __N_REDIRECT: "/to" } } },
  NOTHING: null,
};

test("every kind of value comes back on another instance as it was", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  for (const [kind, value] of Object.entries(kinds)) {
    const cacheControl = { revalidate: 60, expire: 3600 };
    await a.set(`/${kind}`, value, { kind, cacheControl });
    const found = await b.get(`/${kind}`, { kind });
    assert.deepStrictEqual(found.value, value, kind);
    assert.deepEqual(found.cacheControl, cacheControl);
    assert.ok(Math.abs(found.lastModified - Date.now()) < 2_000);
  }
  const data = { kind: "FETCH", data: { headers: {}, body: "aGk=", status: 200, url: "u" }, revalidate: 300 };
  await a.set("f".repeat(64), data, { fetchCache: true, tags: ["t"] });
  assert.deepStrictEqual((await b.get("f".repeat(64), { kind: "FETCH", tags: ["t"] })).value, data);
  assert.deepStrictEqual((await b.get("f".repeat(64), { kindHint: "fetch" })).value, data, "as 14 asks");
  const metrics = await b.metrics();
  assert.deepEqual([metrics.hit, metrics.miss, metrics.error], [7, 1, 0], "one miss was that of the start");
  assert.ok(metrics.latency_ms_count >= 7 && metrics.latency_ms_sum > 0);
});

test("streams of 'use cache' come back whole, and can be read more than once", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  const timestamp = performance.timeOrigin + performance.now();
  const entry = { tags: ["t"], stale: 30, revalidate: 60, expire: 3600 };
  const key = JSON.stringify(["id", "x".repeat(4000), []]);
  await a.useSet(key, { ...entry, timestamp, value: [everyByte, Buffer.from("end")] });
  for (const _ of [1, 2]) {
    const found = await b.useGet(key, []);
    assert.deepStrictEqual(found.value, Buffer.concat([everyByte, Buffer.from("end")]));
    assert.ok(Math.abs(found.timestamp - timestamp) < 20);
    assert.deepEqual({ ...found, value: 0, timestamp: 0 }, { ...entry, value: 0, timestamp: 0 });
  }
  assert.equal(await b.useGet("other", []), undefined);
});

test("every key belongs to the app, ends by itself, and pages belong to a release", async (t) => {
  const redis = await startRedis(t);
  const old = await startReplica(t, redis);
  const next = await startReplica(t, redis, { ROADBED_RELEASE: "r2" });
  const page = { kind: "APP_PAGE", html: "r1", headers: {} };
  const data = { kind: "FETCH", data: { body: "d" }, revalidate: 300 };
  await old.set("/p", page, { kind: "APP_PAGE", cacheControl: { revalidate: false } });
  await old.set("/short", page, { kind: "APP_PAGE", cacheControl: { revalidate: 1, expire: 120 } });
  await old.set(`/${"long".repeat(500)}`, page, { kind: "APP_PAGE", cacheControl: { revalidate: 1 } });
  await old.set("d".repeat(64), data, { fetchCache: true });
  await old.revalidateTag(["x"]);
  assert.equal(await next.get("/p", { kind: "APP_PAGE" }), null, "a page of another release");
  assert.deepEqual((await next.get("d".repeat(64), { kind: "FETCH" })).value, data, "data outlives a release");
  await next.set("/p", { ...page, html: "r2" }, { kind: "APP_PAGE", cacheControl: { revalidate: false } });
  assert.equal((await old.get("/p", { kind: "APP_PAGE" })).value.html, "r1");
  const keys = redis.keys();
  assert.ok(keys.includes("rb:shop:r1:page:/p") && keys.includes("rb:shop:r2:page:/p"), keys.join(" "));
  for (const key of keys) {
    assert.match(key, /^rb:shop:/);
    assert.ok(key.length < 300, key);
    const ttl = Number(redis.cli("ttl", key));
    assert.ok(ttl > 0 && ttl <= 31 * 86400, `${key} ${ttl}`);
  }
  assert.ok(Number(redis.cli("ttl", "rb:shop:r1:page:/short")) <= 120);
});

test("what cannot be read is a miss, and is replaced", async (t) => {
  const redis = await startRedis(t);
  const a = await startReplica(t, redis);
  const page = { kind: "APP_PAGE", html: "x", headers: {} };
  redis.cli("set", "rb:shop:r1:page:/p", "nonsense");
  assert.equal(await a.get("/p", { kind: "APP_PAGE" }), null);
  await a.set("/p", page, { kind: "APP_PAGE", cacheControl: { revalidate: 60 } });
  assert.deepEqual((await (await startReplica(t, redis)).get("/p", { kind: "APP_PAGE" })).value, page);
});

test("a value that would not come back is not stored, and is no error of the page", async (t) => {
  const redis = await startRedis(t);
  const a = await startReplica(t, redis);
  await a.set("/p", { kind: "APP_PAGE", html: "x", pageData: new Date() }, { kind: "APP_PAGE", cacheControl: {} });
  assert.equal(await a.get("/p", { kind: "APP_PAGE" }), null);
  assert.equal((await a.metrics()).error, 1);
});

test("a very large entry stays in memory", async (t) => {
  const redis = await startRedis(t);
  const a = await startReplica(t, redis, { ROADBED_CACHE_ENTRY_MIB: "1" });
  const page = { kind: "APP_PAGE", html: "x".repeat(2 * 1024 * 1024), headers: {} };
  await a.set("/p", page, { kind: "APP_PAGE", cacheControl: { revalidate: 60 } });
  assert.deepEqual((await a.get("/p", { kind: "APP_PAGE" })).value, page);
  assert.deepEqual(redis.keys("*page*"), []);
  assert.equal((await a.metrics()).too_large, 1);
});
