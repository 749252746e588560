"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { answerHealth, PATH } = require("../lib/health.cjs");
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

function ask(socket) {
  const response = { writeHead() {}, end() {} };
  const instance = { status: "ready", responses: new Set([response]) };
  return answerHealth(instance, { url: PATH, method: "GET", headers: {}, socket }, response);
}

test("a tracing library that hooks in late still sees requests", async (t) => {
  const server = await start(t, { TRACE_LATE: "1" });
  await server.ready();
  assert.equal((await server.get("/")).headers["x-traced"], "1");
});
