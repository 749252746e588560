"use strict";
const assert = require("node:assert/strict");
const { once } = require("node:events");
const http = require("node:http");
const net = require("node:net");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { readAddresses } = require("../lib/listeners.cjs");
const { start } = require("./spawn.cjs");

const SECOND = "127.0.0.2";
const listening = { ROADBED_LISTEN: `${SECOND}, 127.0.0.3` };
const at = (host, more) => ({ host, ...more });

test("every address is the same server", async (t) => {
  const server = await start(t, listening);
  await server.ready();
  for (const host of ["127.0.0.1", SECOND, "127.0.0.3"]) {
    assert.equal((await server.get("/", at(host))).body, "answered /", host);
    assert.equal(JSON.parse((await server.get("/.roadbed/health", at(host))).body).status, "ready", host);
  }
  await assert.rejects(server.get("/", at("127.0.0.4")), { code: "ECONNREFUSED" });
});

test("what came by another address ends whole before the process does", async (t) => {
  const server = await start(t, listening);
  await server.ready();
  const slow = server.get("/slow?ms=600", at(SECOND));
  const stream = server.get("/stream", at("127.0.0.3"));
  await sleep(100);
  server.child.kill("SIGTERM");
  await sleep(100);
  for (const host of ["127.0.0.1", SECOND, "127.0.0.3"]) {
    await assert.rejects(server.get("/", at(host)), { code: "ECONNREFUSED" }, host);
  }
  assert.equal((await stream).body, "1\n2\n3\n4\nanswered /stream");
  assert.equal((await slow).body, "answered /slow");
  assert.equal((await slow).headers.connection, "close");
  assert.equal(await server.exited, 143);
  assert.match(server.log(), /roadbed: draining, 2 requests in flight/);
  assert.match(server.log(), /roadbed: drained in/);
});

test("idle connections of another address do not hold up the exit, and are kept until then", async (t) => {
  const server = await start(t, listening);
  await server.ready();
  const agent = new http.Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  await server.get("/", at(SECOND, { agent }));
  await sleep(50);
  const again = http.get({ host: SECOND, port: server.port, path: "/", agent });
  const [answer] = await once(again, "response");
  await once(answer.resume(), "end"); // only then its connection is free for the next request
  assert.equal(again.reusedSocket, true);
  const slow = server.get("/slow?ms=400", at(SECOND, { agent })); // becomes idle only after SIGTERM
  await sleep(100);
  const begun = performance.now();
  server.child.kill("SIGTERM");
  assert.equal((await slow).body, "answered /slow");
  assert.equal(await server.exited, 143);
  assert.ok(performance.now() - begun < 1_500, `${performance.now() - begun} ms`);
});

test("a WebSocket of another address works, and is cut in the end", async (t) => {
  const server = await start(t, { ...listening, ROADBED_DRAIN_SECONDS: "0.4" });
  await server.ready();
  const socket = net.connect(server.port, SECOND);
  socket.on("error", () => {});
  socket.write("GET /socket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
  await once(socket, "data");
  socket.write("ping");
  assert.equal(String((await once(socket, "data"))[0]), "ping");
  server.child.kill("SIGTERM");
  assert.equal(await server.exited, 143);
  assert.match(server.log(), /roadbed: cut 1 connections after 0.4 s/);
});

test("it is ready only when it can be reached on every address", async (t) => {
  const taken = net.createServer().listen(0, SECOND);
  t.after(() => taken.close());
  await once(taken, "listening");
  const server = await start(t, { ...listening, PORT: String(taken.address().port) });
  assert.equal(await server.exited, 1);
  assert.match(server.log(), /roadbed: cannot listen on 127.0.0.2, port \d+: EADDRINUSE/);
});

test("an address that the machine does not have ends the process", async (t) => {
  const server = await start(t, { ROADBED_LISTEN: "192.0.2.1" });
  assert.equal(await server.exited, 1);
  assert.match(server.log(), /roadbed: cannot listen on 192.0.2.1, port \d+: EADDRNOTAVAIL/);
});

test("a name that does not resolve ends the process", async (t) => {
  assert.deepEqual(readAddresses(" 10.0.0.1, ::1 ,"), ["10.0.0.1", "::1"]);
  assert.deepEqual(readAddresses(), []);
  const server = await start(t, { ROADBED_LISTEN: "app-1.invalid" });
  assert.equal(await server.exited, 1);
  assert.match(server.log(), /roadbed: cannot listen on app-1.invalid, port \d+: (ENOTFOUND|EAI_AGAIN)/);
});
