"use strict";
// Redis dies, hangs, comes back, or was never there.
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { startReplica, startReplicas } = require("./replica.cjs");
const { poll, startRedis } = require("./server.cjs");

const page = (html) => ({ kind: "APP_PAGE", html, headers: { "x-next-cache-tags": "t" } });
const APP = { kind: "APP_PAGE" };
const long = { ...APP, cacheControl: { revalidate: 3600 } };

async function timed(action) {
  const begun = performance.now();
  const answer = await action();
  return { answer, ms: performance.now() - begun };
}

test("Redis dies: what was seen is served from memory, what is made is kept; afterwards it is shared again", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  await a.set("/seen", page("seen"), long);
  assert.ok(await b.get("/seen", APP));
  await redis.kill();
  for (let n = 0; n < 20; n += 1) {
    const { answer, ms } = await timed(() => b.get("/seen", APP));
    assert.equal(answer.value.html, "seen");
    assert.ok(ms < 150, `${ms} ms`);
  }
  await b.set("/made", page("made"), long);
  assert.equal((await b.get("/made", APP)).value.html, "made");
  assert.equal(await a.get("/made", APP), null);
  assert.equal((await b.metrics()).connected, false);
  await redis.start();
  await poll(async () => (await a.metrics()).connected && (await b.metrics()).connected);
  assert.equal((await b.get("/made", APP)).value.html, "made", "no new start from nothing");
  await poll(async () => (await a.get("/made", APP))?.value.html === "made");
  await b.set("/after", page("after"), long);
  assert.equal((await a.get("/after", APP)).value.html, "after");
  assert.ok(a.log().split("\n").length < 10, a.log());
});

test("what is revalidated meanwhile counts at once here, and everywhere when Redis is back", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  await a.set("/p", page("old"), long);
  await b.get("/p", APP);
  redis.signal("SIGSTOP");
  const { ms } = await timed(() => a.revalidateTag(["t"]));
  assert.ok(ms < 1_000, `${ms} ms`);
  assert.equal(await a.get("/p", APP), null);
  assert.equal((await a.metrics()).tags_queued, 1);
  assert.match(a.log(), /1 revalidations wait for Redis; other instances do not know/);
  redis.signal("SIGCONT");
  await poll(async () => (await a.metrics()).tags_replayed === 1);
  await poll(async () => (await b.get("/p", APP)) === null);
});

test("more revalidations than can wait become one of everything", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  await a.set("/p", page("old"), long);
  await b.get("/p", APP);
  await redis.kill();
  for (let n = 0; n < 1_100; n += 1) await a.revalidateTag([`tag-${n}`]);
  const { tags_queued: queued, tags_dropped: dropped } = await a.metrics();
  assert.ok(queued === 1_100 && dropped > 1_000, `${queued} ${dropped}`);
  await redis.start();
  await poll(async () => (await a.metrics()).tags_replayed > 0);
  await poll(async () => (await b.get("/p", APP)) === null);
});

test("Redis hangs: nobody waits long, and most do not wait at all", async (t) => {
  const redis = await startRedis(t);
  const [a, b] = await startReplicas(t, redis, 2);
  await a.set("/p", page("x"), long);
  await b.get("/p", APP);
  redis.signal("SIGSTOP");
  const times = [];
  for (const end = Date.now() + 5_000; Date.now() < end; await sleep(20)) {
    const { answer, ms } = await timed(() => b.get("/p", APP));
    assert.equal(answer.value.html, "x");
    times.push(ms);
  }
  times.sort((x, y) => x - y);
  const median = times[Math.floor(times.length / 2)];
  t.diagnostic(`${times.length} reads while Redis hung: median ${median.toFixed(1)} ms, longest ${times.at(-1).toFixed(0)} ms`);
  assert.ok(median < 20 && times.at(-1) < 250, `${median} ${times.at(-1)}`);
  const { connected, reason } = await b.metrics();
  assert.deepEqual([connected, reason], [false, "no answer within 100 ms"]);
  redis.signal("SIGCONT");
  await poll(async () => {
    await b.set("/back", page("back"), long);
    return (await a.get("/back", APP)) !== null;
  });
  await poll(async () => (await b.metrics()).connected);
  assert.equal((await b.metrics()).reason, "");
});

test("Redis is not there at the start: nobody waits for it, and later it is used", async (t) => {
  const redis = await startRedis(t);
  await redis.kill();
  const a = await startReplica(t, redis, {}, { waits: false });
  const { ms } = await timed(() => a.get("/p", APP));
  assert.ok(ms < 1_500, `${ms} ms, the start of the process included`);
  assert.ok((await timed(() => a.get("/p", APP))).ms < 50);
  await a.set("/p", page("x"), long);
  assert.equal((await a.get("/p", APP)).value.html, "x");
  await redis.start();
  await poll(async () => (await a.metrics()).connected);
  await a.set("/q", page("y"), long);
  assert.equal((await (await startReplica(t, redis)).get("/q", APP)).value.html, "y");
});

test("a server that refuses the password is like none, and the reason is logged without it", async (t) => {
  const redis = await startRedis(t);
  const wrong = { ROADBED_CACHE_URL: redis.url.replace("secret", "wrong-word") };
  const a = await startReplica(t, redis, wrong, { waits: false });
  await a.set("/p", page("x"), long);
  assert.equal((await a.get("/p", APP)).value.html, "x");
  await poll(() => /WRONGPASS/.test(a.log()));
  const { reason } = await a.metrics();
  assert.match(reason, /WRONGPASS/);
  assert.doesNotMatch(a.log() + reason, /wrong-word/);
});

test("a Redis that is full or refuses a command does not cut off reading", async (t) => {
  const redis = await startRedis(t);
  const [a] = await startReplicas(t, redis, 1);
  await a.set("/p", page("x"), long);
  redis.cli("config", "set", "maxmemory", "1");
  await a.set("/q", page("y"), long);
  for (let n = 0; n < 5; n += 1) assert.equal((await a.get("/p", APP)).value.html, "x");
  assert.equal((await a.get("/q", APP)).value.html, "y", "from memory");
  const metrics = await a.metrics();
  assert.ok(metrics.connected && metrics.error > 0);
  assert.match(a.log(), /OOM/);
});
