"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { reconnectDelay, withTimeout } = require("../cache/connection.cjs");

test("no answer is an error after the time allowed", async () => {
  const begun = performance.now();
  await assert.rejects(withTimeout(new Promise(() => {}), 20), /no answer within 20 ms/);
  assert.ok(performance.now() - begun < 200);
});

test("a rejection is passed on, and one that comes too late is handled", async () => {
  await assert.rejects(withTimeout(Promise.reject(new Error("refused")), 50), /refused/);
  let fail;
  const late = new Promise((_, reject) => (fail = reject));
  await assert.rejects(withTimeout(late, 5), /no answer/);
  fail(new Error("an unhandled rejection would end the test with an error"));
  await new Promise((done) => setImmediate(done));
});

test("an answer that arrived while the process was busy counts", async () => {
  const { createServer, connect } = require("node:net");
  const server = createServer((socket) => socket.on("data", () => socket.end("answer"))).listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const socket = connect(server.address().port, "127.0.0.1");
  await new Promise((done) => socket.once("connect", done));
  const answer = new Promise((done) => socket.once("data", done));
  socket.write("question");
  await new Promise((done) => setTimeout(done, 1));
  const asked = withTimeout(answer, 10);
  // The process is busy for longer than the time allowed; the answer comes meanwhile.
  for (const end = performance.now() + 60; performance.now() < end; );
  assert.equal(String(await asked), "answer");
  server.close();
});

test("reconnecting is quick at first, bounded, and spread", () => {
  const delays = (retries) => Array.from({ length: 50 }, () => reconnectDelay(retries));
  assert.ok(Math.max(...delays(0)) <= 25);
  assert.ok(Math.max(...delays(30)) <= 1000);
  assert.ok(new Set(delays(30)).size > 10);
});
