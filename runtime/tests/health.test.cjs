"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { Checks } = require("../lib/checks.cjs");
const { addPeers, answerHealth, PATH } = require("../lib/health.cjs");
const { start } = require("./spawn.cjs");

test("health names release and instance, and every response does", async (t) => {
  const server = await start(t);
  await server.ready();
  const health = await server.get(PATH);
  const body = JSON.parse(health.body);
  assert.equal(body.status, "ready");
  assert.equal(body.release, "r7");
  assert.equal(body.instance, "b-2");
  assert.equal(body.pid, server.child.pid);
  assert.equal(health.headers["cache-control"], "no-store");
  const page = await server.get("/");
  assert.equal(page.headers["x-roadbed-release"], "r7");
  assert.equal(page.headers["x-roadbed-instance"], "b-2");
  assert.equal(page.body, "answered /");
});

test("health is 503 until the app has answered once", async (t) => {
  const server = await start(t, { LOAD_MS: "400" });
  await server.listening();
  const early = await server.get(PATH);
  assert.equal(early.status, 503);
  assert.equal(JSON.parse(early.body).status, "starting");
  await server.ready();
});

test("an app that answers 500 does not become ready, and health says why", async (t) => {
  const server = await start(t, { BROKEN: "1" });
  await server.listening();
  await sleep(200);
  const health = await server.get(PATH);
  assert.equal(health.status, 503);
  assert.equal(JSON.parse(health.body).reason, "the app answers 500");
});

test("a request that came through a proxy goes to the app", async (t) => {
  const server = await start(t);
  await server.ready();
  for (const name of ["x-forwarded-for", "forwarded", "x-real-ip"]) {
    const answer = await server.get(PATH, { headers: { [name]: "127.0.0.1" } });
    assert.equal(answer.status, 404, name);
    assert.equal(answer.body, `answered ${PATH}`);
  }
});

test("a dual-stack server sees IPv4 neighbours as such", async (t) => {
  const server = await start(t, { HOSTNAME: "::" });
  await server.ready();
  assert.equal((await server.get(PATH, { host: "127.0.0.1" })).status, 200);
});

test("only near addresses are answered", () => {
  const cases = {
    "127.0.0.1": true,
    "10.1.2.3": true,
    "172.31.0.1": true,
    "172.32.0.1": false,
    "192.168.1.1": true,
    "100.64.0.9": true,
    "203.0.113.10": false,
    "::1": true,
    "fd00::1": true,
    "2001:db8::1": false,
    "::ffff:10.0.0.1": true,
    "::ffff:203.0.113.10": false,
  };
  for (const [remoteAddress, answered] of Object.entries(cases)) {
    assert.equal(ask({ remoteAddress, localAddress: "198.51.100.1" }), answered, remoteAddress);
  }
  assert.equal(ask({ remoteAddress: "203.0.113.10", localAddress: "203.0.113.10" }), true, "the same machine");
  assert.equal(ask({}), false, "a connection that is already gone");
});

test("peers of other networks are answered too, and nobody else there", () => {
  addPeers("198.51.100.7, 2001:db8::7,web-1.example.com");
  for (const [remoteAddress, answered] of Object.entries({
    "198.51.100.7": true,
    "::ffff:198.51.100.7": true,
    "2001:db8::7": true,
    "198.51.100.8": false,
  })) {
    assert.equal(ask({ remoteAddress, localAddress: "198.51.100.1" }), answered, remoteAddress);
  }
});

test("live answers 200 while health does not", async (t) => {
  const server = await start(t, { LOAD_MS: "400" });
  await server.listening();
  const live = await server.get("/.roadbed/live");
  assert.deepEqual([live.status, JSON.parse(live.body)], [200, { live: true }]);
  assert.equal((await server.get(PATH)).status, 503);
});

test("a database that is away is a reason, and keeps no instance from its work", async (t) => {
  const server = await start(t, { DATABASE_URL: "postgresql://shop:hush-hush@127.0.0.1:1/shop" });
  await server.ready();
  let health;
  do {
    await sleep(20);
    health = await server.get(PATH);
  } while (JSON.parse(health.body).checks.database.status === "unknown");
  assert.equal(health.status, 200);
  assert.deepEqual(JSON.parse(health.body).checks.database, {
    status: "degraded",
    reason: "127.0.0.1:1: connection refused",
  });
  assert.doesNotMatch(health.body, /hush-hush/);
});

test("what is no PostgreSQL server is not asked", () => {
  for (const url of [undefined, "", "file:./dev.db", "mysql://a:b@db/x", "postgres://db1,db2/x", "postgres:///x"]) {
    assert.deepEqual(new Checks({ DATABASE_URL: url }).look(), {}, url);
  }
});

test("the cache tells by its counters whether it is shared", () => {
  const name = Symbol.for("roadbed.cache");
  const look = (metrics) => {
    globalThis[name] = metrics;
    return new Checks({}).look().cache;
  };
  assert.deepEqual(look({ mode: "local", connected: false }), { status: "ok" });
  assert.deepEqual(look({ mode: "shared", connected: true }), { status: "ok" });
  assert.deepEqual(look({ mode: "shared", connected: false, reason: "" }), { status: "unknown" });
  const away = look({ mode: "shared", connected: false, reason: "ECONNREFUSED" });
  assert.equal(away.status, "degraded");
  assert.match(away.reason, /^Redis: ECONNREFUSED; /);
  delete globalThis[name];
});

function ask(socket) {
  const response = { writeHead() {}, end() {} };
  const instance = { status: "ready", responses: new Set([response]), checks: { look: () => ({}) } };
  return answerHealth(instance, { url: PATH, method: "GET", headers: {}, socket }, response);
}

test("a tracing library that hooks in late still sees requests", async (t) => {
  const server = await start(t, { TRACE_LATE: "1" });
  await server.ready();
  assert.equal((await server.get("/")).headers["x-traced"], "1");
});
