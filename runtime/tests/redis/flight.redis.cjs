"use strict";
// Of several instances one makes an entry anew; the others serve the old one, or wait for the new one.
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { startReplica, startReplicas } = require("./replica.cjs");
const { startRedis } = require("./server.cjs");

const page = (html) => ({ kind: "APP_PAGE", html, headers: { "x-next-cache-tags": "t" } });
const APP = { kind: "APP_PAGE" };
const seconds = (revalidate) => ({ ...APP, cacheControl: { revalidate, expire: 3600 } });
const isStale = ({ lastModified, cacheControl }) =>
  lastModified + cacheControl.revalidate * 1000 < performance.timeOrigin + performance.now();

test("a stale page is made anew by one instance, the others serve it for a moment more", async (t) => {
  const redis = await startRedis(t);
  const three = await startReplicas(t, redis, 3);
  await three[0].set("/p", page("old"), seconds(1));
  await sleep(1_050);
  const found = await Promise.all(three.map((one) => one.get("/p", APP)));
  assert.deepEqual(found.map(({ value }) => value.html), ["old", "old", "old"]);
  assert.equal(found.filter(isStale).length, 1);
  for (const other of found.filter((one) => !isStale(one))) {
    assert.equal(other.cacheControl.revalidate, 1, "whoever caches the answer may do so for a second only");
  }
  await three[1].set("/p", page("new"), seconds(1));
  const later = await Promise.all(three.map((one) => one.get("/p", APP)));
  assert.deepEqual(later.map(({ value }) => value.html), ["new", "new", "new"]);
  assert.ok(!later.some(isStale));
  const lost = await Promise.all(three.map((one) => one.metrics()));
  assert.equal(lost.reduce((sum, { lock_lost: n }) => sum + n, 0), 2);
});

test("a stale fetch too", async (t) => {
  const redis = await startRedis(t);
  const two = await startReplicas(t, redis, 2);
  await two[0].set("k", { kind: "FETCH", data: { body: "d" }, revalidate: 1 }, { fetchCache: true });
  await sleep(1_050);
  const found = await Promise.all(two.map((one) => one.get("k", { kind: "FETCH", revalidate: 1 })));
  const age = ({ lastModified }) => performance.timeOrigin + performance.now() - lastModified;
  assert.equal(found.filter((one) => age(one) > 1_000).length, 1);
});

test("an expired page and one that is not there are rendered once; the others wait for it", async (t) => {
  const redis = await startRedis(t);
  const three = await startReplicas(t, redis, 3);
  for (const round of ["missing", "expired"]) {
    if (round === "expired") await three[0].revalidateTag(["t"]);
    const begun = performance.now();
    const found = await Promise.all(three.map((one) => one.render("/p", page(round), seconds(60), 200)));
    assert.equal(found.filter((one) => one === null).length, 1, round);
    assert.deepEqual([...new Set(found.filter(Boolean).map(({ value }) => value.html))], [round]);
    assert.ok(performance.now() - begun < 700, `${performance.now() - begun} ms`);
  }
});

test("who waits in vain does so for a second at most, and not again at once", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  assert.equal(await a.get("/never-stored", APP), null);
  for (const [least, most] of [[900, 1_600], [0, 300]]) {
    const begun = performance.now();
    assert.equal(await b.get("/never-stored", APP), null);
    const took = performance.now() - begun;
    assert.ok(took >= least && took < most, `${took} ms`);
  }
});

test("when the instance that makes it dies, another does", async (t) => {
  const redis = await startRedis(t);
  const short = { ROADBED_CACHE_LEASE_MS: "500" };
  const [a, b] = [await startReplica(t, redis, short), await startReplica(t, redis, short)];
  await a.set("/p", page("old"), seconds(1));
  await sleep(1_050);
  assert.ok(isStale(await a.get("/p", APP)));
  a.child.kill("SIGKILL");
  assert.ok(!isStale(await b.get("/p", APP)));
  await sleep(600);
  assert.ok(isStale(await b.get("/p", APP)));
});

test("a prefetch does not take the turn: Next.js makes nothing anew for it", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  await a.set("/p", page("old"), seconds(1));
  await sleep(1_050);
  for (const headers of [{ "next-router-prefetch": "1" }, { purpose: "prefetch" }]) {
    assert.equal((await a.get("/p", APP, headers)).value.html, "old");
  }
  assert.ok(isStale(await b.get("/p", APP)));
});
