"use strict";
// A tag revalidated on one instance counts on all, whatever happens meanwhile.
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { startReplica, startReplicas } = require("./replica.cjs");
const { poll, startRedis } = require("./server.cjs");

const page = (html, tags = "t,_N_T_/p") => ({ kind: "APP_PAGE", html, headers: { "x-next-cache-tags": tags } });
const APP = { kind: "APP_PAGE" };
const forever = { ...APP, cacheControl: { revalidate: false } };
/** As Next.js decides it from what the handler returns. */
const isStale = ({ lastModified, cacheControl: { revalidate } }) =>
  revalidate !== false && lastModified + revalidate * 1000 < performance.timeOrigin + performance.now();

test("expired at once: on the other instance too, and the new entry is fresh", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  for (const tags of [["t"], "_N_T_/p"]) {
    await a.set("/p", page("old"), forever);
    assert.equal((await b.get("/p", APP)).value.html, "old");
    await a.revalidateTag(tags);
    const begun = performance.now();
    assert.equal(await b.get("/p", APP), null);
    assert.ok(performance.now() - begun < 500);
    await b.set("/p", page("new"), forever);
    assert.equal((await a.get("/p", APP)).value.html, "new");
  }
  await a.revalidateTag(["another"]);
  assert.equal((await b.get("/p", APP)).value.html, "new");
});

test("soft tags and the caller's tags count for fetches", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  const data = { kind: "FETCH", data: { body: "d" }, revalidate: 300 };
  const get = { kind: "FETCH", tags: ["t"], softTags: ["_N_T_/page"] };
  for (const tag of ["t", "_N_T_/page"]) {
    await a.set("k", data, { fetchCache: true, tags: ["t"] });
    assert.ok(await b.get("k", get));
    await a.revalidateTag([tag]);
    assert.equal(await b.get("k", get), null, tag);
  }
});

test("a profile makes stale, then expires", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  await a.set("/p", page("old"), forever);
  assert.ok(!isStale(await b.get("/p", APP)));
  await a.revalidateTag(["t"], { expire: 1 });
  const found = await b.get("/p", APP);
  assert.equal(found.value.html, "old");
  assert.ok(isStale(found));
  await sleep(1_100);
  assert.equal(await a.get("/p", APP), null);
});

test("'use cache': tags, soft tags, profile, time of the last revalidation", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  const now = () => performance.timeOrigin + performance.now();
  const entry = () => ({ tags: ["t"], stale: 1, revalidate: 60, expire: 3600, timestamp: now(), value: [Buffer.from("v")] });
  assert.equal(await b.expiration(["t", "soft"]), 0);
  for (const tag of ["t", "soft"]) {
    await a.useSet("k", entry());
    assert.ok(await b.useGet("k", ["soft"]));
    await a.useTags([tag]);
    assert.equal(await b.useGet("k", ["soft"]), undefined, tag);
    assert.ok(Math.abs((await b.expiration([tag])) - now()) < 1_000);
  }
  await a.useSet("k", entry());
  await a.useTags(["t"], { expire: 3600 });
  assert.equal((await b.useGet("k", [])).revalidate, -1, "served, and made anew");
  assert.equal((await a.useGet("k", [])).revalidate, 60, "somebody makes it anew already");
});

test("a tag revalidated while the page renders wins", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  const rendering = a.render("/p", page("saw the old data"), forever, 300);
  await sleep(100);
  await b.revalidateTag(["t"]);
  await rendering;
  assert.equal(await b.get("/p", APP), null);
});

test("what Redis has forgotten is not taken for fresh", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  await a.set("/p", page("old"), { ...APP, cacheControl: { revalidate: 3600 } });
  await a.revalidateTag(["another"]);
  assert.ok(!isStale(await b.get("/p", APP)));
  redis.cli("del", "rb:shop:tags");
  assert.ok(isStale(await b.get("/p", APP)), "an instance that knew it");
  redis.cli("flushall");
  await a.set("/q", page("old"), { ...APP, cacheControl: { revalidate: 3600 } });
  await sleep(5);
  redis.cli("del", "rb:shop:tags");
  assert.ok(isStale(await (await startReplica(t, redis)).get("/q", APP)), "an instance that is new");
});

test("what was revalidated is bounded; instances that know it all still do", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  await a.set("/p", page("old"), { ...APP, cacheControl: { revalidate: 3600 } });
  assert.ok(!isStale(await b.get("/p", APP)));
  for (let n = 0; n < 12_000; n += 500) {
    await Promise.all(Array.from({ length: 500 }, (_, m) => a.revalidateTag([`tag-${n + m}`])));
    await a.get("/other", { kind: "FETCH" }); // a site that is visited
  }
  assert.ok(Number(redis.cli("xlen", "rb:shop:tags")) < 10_200);
  assert.ok(!isStale(await a.get("/p", APP)), "has heard of every single one");
  const late = await startReplica(t, redis);
  let found;
  await poll(async () => (found = await late.get("/p", APP)) !== null);
  assert.ok(isStale(found), "cannot know the first 2000");
  assert.equal((await a.metrics()).error, 0);
});

test("the cost of revalidating does not grow with the number of entries", async (t) => {
  const redis = await startRedis(t);
  const a = await startReplica(t, redis);
  const cost = async () => {
    const times = [];
    for (let n = 0; n < 50; n += 1) {
      const begun = performance.now();
      await a.revalidateTag([`tag-${n}`]);
      times.push(performance.now() - begun);
    }
    return times.sort((x, y) => x - y)[25];
  };
  const few = await cost();
  const begun = performance.now();
  for (let n = 0; n < 50_000; n += 500) {
    await Promise.all(Array.from({ length: 500 }, (_, m) => a.set(`/p${n + m}`, page("x", `tag-${m % 50}`), forever)));
  }
  const stored = performance.now() - begun;
  const many = await cost();
  t.diagnostic(`revalidateTag, median: ${few.toFixed(2)} ms with 0 entries, ${many.toFixed(2)} ms with 50000; 50000 set in ${Math.round(stored)} ms`);
  assert.ok(many < few * 3 + 2, `${few} ${many}`);
  assert.equal(await a.get("/p49999", APP), null);
  assert.doesNotMatch(redis.cli("info", "commandstats"), /cmdstat_(keys|scan|hscan|sscan|eval)/);
});
