"use strict";
// Three instances of the storefront, one Redis: what visitors see.
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { load, startNext } = require("./next-server.cjs");
const { poll, startRedis } = require("./server.cjs");

/** What the instances had to complain about, for whoever reads a failure. */
function complaints(t, servers) {
  const lines = servers.flatMap((server) => server.log().split("\n").filter((line) => /shared cache|rror/.test(line)));
  if (lines.length) t.diagnostic(lines.join("\n"));
}

async function stack(t) {
  const redis = await startRedis(t);
  const first = await startNext(t, { ROADBED_CACHE_URL: redis.url });
  const env = { ROADBED_CACHE_URL: redis.url, STOREFRONT_ORIGIN: `http://127.0.0.1:${first.port}` };
  const three = await Promise.all([1, 2, 3].map(() => startNext(t, env)));
  return { redis, three };
}

/** How often an instance waited in vain for Redis: it then makes the page itself, as it should on a machine that stands still. */
const late = (servers) => servers.reduce((sum, server) => sum + server.log().split("no answer within").length - 1, 0);

const total = (servers, what) => servers.reduce((sum, server) => sum + server.renders(what), 0);

/** Asks the servers until they all show another mark than `old`; ms until each did. */
async function untilNew(servers, url, name, old) {
  const begun = performance.now();
  return Promise.all(
    servers.map(async (server) => {
      await poll(async () => (await server.get(url)).mark(name) !== old, 5);
      return Math.round(performance.now() - begun);
    }),
  );
}

test("visitors see one site", async (t) => {
  const { redis, three } = await stack(t);

  await t.test("pages of the build are there from the first request", async () => {
    for (const url of ["/", "/products/1", "/flash-sale"]) {
      const { status, cache } = await three[0].get(url);
      assert.equal(status, 200);
      assert.match(cache, /^(HIT|STALE)$/, url);
    }
  });

  await t.test("a page made on demand is made once, and is the same bytes everywhere", async () => {
    const found = await Promise.all(three.map((server) => server.get("/products/77")));
    assert.equal(total(three, "/products/77 "), 1);
    assert.equal(new Set(found.map(({ bytes }) => String(bytes))).size, 1);
    for (const server of three) assert.equal((await server.get("/products/77")).cache, "HIT");
  });

  await t.test("data for navigation and prefetching comes from the same entry", async () => {
    for (const headers of [{ rsc: "1" }, { rsc: "1", "next-router-prefetch": "1", "next-router-segment-prefetch": "/_tree" }]) {
      const found = await Promise.all(three.map((server) => server.get("/products/77", headers)));
      for (const one of found) assert.equal(one.status, 200);
      assert.equal(new Set(found.map(({ bytes }) => String(bytes))).size, 1);
      assert.ok(found[0].bytes.length > 0);
    }
    assert.equal(total(three, "/products/77 "), 1);
  });

  await t.test("a binary route handler keeps its bytes", async () => {
    const found = await Promise.all(three.map((server) => server.get("/products/77/label.png")));
    assert.equal(found[0].bytes.readUInt32BE(0), 0x89504e47);
    for (const one of found) assert.deepEqual(one.bytes, found[0].bytes);
    assert.equal(total(three, "/products/77/label.png"), 1);
  });

  await t.test("one regeneration a window under load", async () => {
    const before = total(three, "/flash-sale ");
    const stop = load(three, ["/flash-sale"], 20);
    await sleep(26_000);
    const answers = await stop();
    const made = total(three, "/flash-sale ") - before;
    t.diagnostic(`26 s of load, window 5 s: ${made} regenerations for ${answers.length} requests at 3 instances`);
    assert.ok(answers.every(({ status }) => status === 200));
    assert.ok(made >= 4 && made <= 6, `${made}`);
  });

  await t.test("a tag or path revalidated on one is new on all", async () => {
    const cases = [
      ["/prices/5", "quote", { tag: "price-5" }, undefined],
      ["/reviews/5", "summary", { tag: "reviews-5" }, "reviews 5"],
      ["/trends", "trend", { tag: "trends-tools" }, "trends tools"],
      ["/products/77", "render", { path: "/products/77" }, "/products/77 "],
    ];
    for (const [url, name, what, rendered] of cases) {
      const old = (await three[0].get(url)).mark(name);
      for (const server of three) assert.equal((await server.get(url)).mark(name), old, url);
      await three[0].post("/api/revalidate", what);
      const before = rendered && total(three, rendered);
      const waits = late(three);
      const ms = await untilNew(three, url, name, old);
      const marks = await Promise.all(three.map(async (server) => (await server.get(url)).mark(name)));
      t.diagnostic(`${url} after ${JSON.stringify(what)} on the first: new after ${ms.join(", ")} ms`);
      assert.equal(new Set(marks).size, 1, url);
      assert.ok(Math.max(...ms) < 1_500, `${url}: ${ms}`);
      if (rendered) assert.ok(total(three, rendered) - before <= 1 + late(three) - waits, url);
    }
  });

  await t.test("a profile serves the old content while one instance makes the new one", async () => {
    const old = (await three[1].get("/reviews/5")).mark("summary");
    await three[0].post("/api/revalidate", { tag: "reviews-5", profile: "max" });
    assert.equal((await three[1].get("/reviews/5")).mark("summary"), old);
    await untilNew(three, "/reviews/5", "summary", old);
  });

  complaints(t, three);
  await t.test("Redis had one kind of key, no forbidden command and no error", () => {
    assert.ok(redis.keys().every((key) => key.startsWith("rb:shop:")));
    const seen = redis.cli("info", "errorstats");
    assert.doesNotMatch(seen, /NOPERM|WRONGTYPE|ERR:/);
  });
});

for (const [what, down, up] of [
  ["dies", (redis) => redis.kill(), (redis) => redis.start()],
  ["hangs", (redis) => redis.signal("SIGSTOP"), (redis) => redis.signal("SIGCONT")],
]) {
  test(`Redis ${what} under load: no failed request, bounded times, and shared again`, async (t) => {
    const { redis, three } = await stack(t);
    const paths = ["/", "/flash-sale", "/products/1", "/products/5", "/prices/1", "/trends", "/products/1/label.png"];
    for (const url of paths) await Promise.all(three.map((server) => server.get(url)));
    const stop = load(three, paths, 30);
    await sleep(3_000);
    await down(redis);
    const from = Date.now();
    await sleep(8_000);
    await up(redis);
    const to = Date.now();
    await sleep(4_000);
    const answers = await stop();
    const away = answers.filter(({ at }) => at >= from && at <= to).map(({ ms }) => ms).sort((a, b) => a - b);
    const p = (share) => away[Math.min(away.length - 1, Math.floor(away.length * share))].toFixed(0);
    t.diagnostic(
      `${what}: ${answers.length} requests, ${away.length} of them without Redis: ` +
        `median ${p(0.5)}, p99 ${p(0.99)}, longest ${p(1)} ms; failed ${answers.filter(({ status }) => status !== 200).length}`,
    );
    assert.ok(answers.every(({ status }) => status === 200));
    assert.ok(away.length > 50 && away.at(-1) < 1_500);
    await three[0].get("/products/901");
    const again = await Promise.all(three.map((server) => server.get("/products/901")));
    assert.equal(new Set(again.map(({ mark }) => mark("render"))).size, 1);
    for (const server of three) assert.ok(server.log().split("roadbed: shared cache").length < 15);
    for (const server of three) assert.doesNotMatch(server.log(), /unhandled/i);
  });
}
