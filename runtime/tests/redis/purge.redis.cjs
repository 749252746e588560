"use strict";
// What a CDN is told, by the storefront: with a cache of its own, with a shared one, and while Redis is away.
const assert = require("node:assert/strict");
const { once } = require("node:events");
const http = require("node:http");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { startNext } = require("./next-server.cjs");
const { poll, startRedis } = require("./server.cjs");

async function receiver(t) {
  const calls = [];
  const server = http.createServer(async (request, response) => {
    calls.push(JSON.parse(Buffer.concat(await request.toArray()).toString()));
    response.writeHead(204).end();
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.closeAllConnections());
  t.after(() => server.close());
  const told = () => calls.flatMap(({ tags, paths }) => [...tags, ...paths]);
  return { told, env: { ROADBED_PURGE_URL: `http://127.0.0.1:${server.address().port}/` } };
}

async function revalidate(server) {
  await server.post("/api/revalidate", { tag: "prices" });
  await server.post("/api/revalidate", { tag: "reviews", profile: "max" });
  await server.post("/api/revalidate", { path: "/products/2" });
}

test("with a cache of its own an instance tells what it has revalidated, each once", async (t) => {
  const { told, env } = await receiver(t);
  const server = await startNext(t, env);
  await revalidate(server);
  await poll(() => told().length >= 3);
  await sleep(1_200);
  assert.deepEqual(told().sort(), ["/products/2", "prices", "reviews"]);
});

test("with a shared cache the instance that revalidated tells, and no other", async (t) => {
  const redis = await startRedis(t);
  const [first, second] = await Promise.all([receiver(t), receiver(t)]);
  const own = { ROADBED_CACHE_URL: redis.url };
  const servers = await Promise.all([first, second].map(({ env }) => startNext(t, { ...env, ...own })));
  await revalidate(servers[0]);
  await poll(() => first.told().length >= 3);
  assert.equal((await servers[1].get("/products/2")).status, 200);
  await sleep(1_200);
  assert.deepEqual(first.told().sort(), ["/products/2", "prices", "reviews"]);
  assert.deepEqual(second.told(), []);
});

test("while Redis is away nobody is told: the CDN would ask instances that do not know", async (t) => {
  const redis = await startRedis(t);
  const { told, env } = await receiver(t);
  const server = await startNext(t, { ...env, ROADBED_CACHE_URL: redis.url });
  await server.get("/products/2");
  await redis.kill();
  await revalidate(server);
  await sleep(2_500);
  assert.deepEqual(told(), []);
  await redis.start();
  await poll(() => told().length >= 3, 15);
  assert.deepEqual(told().sort(), ["/products/2", "prices", "reviews"]);
});
