"use strict";
const assert = require("node:assert/strict");
const { execFile } = require("node:child_process");
const net = require("node:net");
const path = require("node:path");
const { once } = require("node:events");
const { test } = require("node:test");
const { start } = require("./spawn.cjs");

/** What the gate says of one instance. */
function gate(server, more) {
  const wanted = {
    app: "shop",
    release: "r7",
    addresses: ["127.0.0.1"],
    domain: "shop.example.com",
    health: "/",
    seconds: 0.2,
    instances: { "b-2": server.port },
    ...more,
  };
  return new Promise((resolve) => {
    const words = [path.join(__dirname, "../gate.cjs"), JSON.stringify(wanted)];
    execFile(process.execPath, words, (error, out) => resolve({ code: error?.code ?? 0, ...JSON.parse(out) }));
  });
}

test("an instance is good when it answers on every address", async (t) => {
  const server = await start(t, { ROADBED_LISTEN: "127.0.0.2" });
  await server.ready();
  const answer = await gate(server, { addresses: ["127.0.0.1", "127.0.0.2"] });
  assert.deepEqual([answer.code, answer.good, answer.degraded], [0, true, []]);
  const missing = await gate(server, { addresses: ["127.0.0.1", "127.0.0.2", "127.0.0.3"] });
  assert.deepEqual([missing.code, missing.good], [1, false]);
  assert.equal(missing.reason, "does not listen on 127.0.0.3");
});

test("a good instance may complain, and the gate waits until it knows", async (t) => {
  const silent = net.createServer().listen(0, "127.0.0.1");
  t.after(() => silent.close());
  await once(silent, "listening");
  const place = `127.0.0.1:${silent.address().port}`;
  const server = await start(t, { DATABASE_URL: `postgresql://shop:hush-hush@${place}/shop` });
  await server.ready();
  const answer = await gate(server);
  assert.deepEqual([answer.code, answer.good], [0, true]);
  assert.deepEqual(answer.degraded, [`database: ${place}: no answer within 3 s`]);
});

test("an app that fails is held, with what it complains about", async (t) => {
  const server = await start(t, { DATABASE_URL: "postgresql://shop:hush-hush@127.0.0.1:1/shop" });
  await server.ready();
  const answer = await gate(server, { health: "/missing" });
  assert.deepEqual([answer.code, answer.status, answer.reason], [1, 404, "/missing is not healthy"]);
  assert.deepEqual(answer.degraded, ["database: 127.0.0.1:1: connection refused"]);
  assert.doesNotMatch(JSON.stringify(answer), /hush-hush/);
});

test("without a page it waits until all addresses answer at once", async (t) => {
  const server = await start(t, { ROADBED_LISTEN: "127.0.0.2" });
  await server.ready();
  const addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]; // nobody listens on the last: nothing waits there
  assert.equal((await gate(server, { health: null, addresses })).good, true);
});
