"use strict";
const assert = require("node:assert/strict");
const { once } = require("node:events");
const http = require("node:http");
const net = require("node:net");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { start } = require("./spawn.cjs");

test("idle keep-alive connections do not hold up the exit", async (t) => {
  const server = await start(t);
  await server.ready();
  const agent = new http.Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  await Promise.all([1, 2, 3].map(() => server.get("/", { agent })));
  const slow = server.get("/slow?ms=400", { agent }); // its connection becomes idle only after SIGTERM
  await sleep(100);
  const begun = performance.now();
  server.child.kill("SIGTERM");
  assert.equal((await slow).body, "answered /slow");
  assert.equal(await server.exited, 143);
  assert.ok(performance.now() - begun < 1_500, `${performance.now() - begun} ms`);
  assert.match(server.log(), /roadbed: draining, 1 requests in flight/);
});

test("what is in flight ends whole, and its connection is not used again", async (t) => {
  const server = await start(t);
  await server.ready();
  const agent = new http.Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const slow = server.get("/slow?ms=300", { agent });
  const stream = server.get("/stream", { agent });
  await sleep(150);
  server.child.kill("SIGTERM");
  assert.equal((await slow).headers.connection, "close");
  assert.equal((await stream).body, "1\n2\n3\n4\nanswered /stream");
  await assert.rejects(server.get("/"), { code: "ECONNREFUSED" });
  assert.equal(await server.exited, 143);
});

test("health on a connection that is already open says draining", async (t) => {
  const server = await start(t);
  await server.ready();
  const socket = net.connect(server.port, "127.0.0.1");
  await once(socket, "connect");
  socket.write("GET /.roadbed/health HTTP/1.1\r\nhost: x\r\n"); // the end of the head comes later
  await sleep(50);
  server.child.kill("SIGTERM");
  await sleep(50);
  socket.write("\r\n");
  const [answer] = await once(socket, "data");
  assert.match(String(answer), /^HTTP\/1.1 503 /);
  assert.match(String(answer), /"status":"draining"/);
  assert.match(String(answer), /connection: close/i);
  assert.equal(await server.exited, 143);
});

test("what never ends is cut after ROADBED_DRAIN_SECONDS, WebSockets too", async (t) => {
  const server = await start(t, { ROADBED_DRAIN_SECONDS: "0.4" });
  await server.ready();
  const endless = server.get("/endless");
  const socket = net.connect(server.port, "127.0.0.1");
  socket.on("error", () => {});
  socket.write("GET /socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
  await once(socket, "data");
  socket.write("ping");
  assert.equal(String((await once(socket, "data"))[0]), "ping");
  const begun = performance.now();
  server.child.kill("SIGTERM");
  await assert.rejects(endless, { code: "ECONNRESET" });
  assert.equal(await server.exited, 143);
  assert.ok(performance.now() - begun >= 390);
  assert.match(server.log(), /roadbed: cut 2 connections after 0.4 s/);
});

test("SIGTERM ends the process when nobody else handles it", async (t) => {
  const server = await start(t, { NEXT_MANUAL_SIG_HANDLE: "1" });
  await server.ready();
  server.child.kill("SIGTERM");
  assert.equal(await server.exited, 143);
});

test("an unusable drain time is refused at the start", async (t) => {
  const server = await start(t, { ROADBED_DRAIN_SECONDS: "soon" });
  assert.equal(await server.exited, 1);
  assert.match(server.log(), /ROADBED_DRAIN_SECONDS: soon is not a number of seconds/);
});

test("connections are kept 75 s unless the environment says otherwise", async (t) => {
  const preload = require.resolve("../server.cjs");
  const { execFileSync } = require("node:child_process");
  const read = (env) =>
    execFileSync(process.execPath, ["-r", preload, "-p", "process.env.KEEP_ALIVE_TIMEOUT"], { env }).toString().trim();
  assert.equal(read({}), "75000");
  assert.equal(read({ KEEP_ALIVE_TIMEOUT: "90000" }), "90000");
});

test("what a CDN has still to be told is told before the process ends", async (t) => {
  const server = await start(t, { PURGE_MS: "600" });
  await server.ready();
  const begun = performance.now();
  server.child.kill("SIGTERM");
  assert.equal(await server.exited, 143);
  assert.ok(performance.now() - begun >= 590);
  assert.match(server.log(), /told the CDN/);
});
