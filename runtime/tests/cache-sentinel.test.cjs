"use strict";
// The vote among Sentinels, with servers that say what a Sentinel may say; real ones: redis/sentinel.redis.cjs.
const assert = require("node:assert/strict");
const { once } = require("node:events");
const net = require("node:net");
const { test } = require("node:test");
const { findMaster, masterLookup } = require("../cache/sentinel.cjs");

const names = (host, port = "6379") => `+OK\r\n*2\r\n$${host.length}\r\n${host}\r\n$${port.length}\r\n${port}\r\n`;
const NOBODY = "+OK\r\n*-1\r\n";

/** One server for each answer; "" never answers, undefined refuses connections. */
async function group(t, answers) {
  const heard = [];
  const sentinels = [];
  for (const answer of answers) {
    const server = net.createServer((socket) => {
      socket.on("error", () => {}).on("data", (text) => {
        heard.push(String(text));
        for (const piece of answer.match(/[^]{1,7}/g) ?? []) socket.write(piece);
      });
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    sentinels.push({ host: "127.0.0.1", port: server.address().port });
    if (answer === undefined) server.close();
    else t.after(() => server.close());
  }
  return { sentinels, master: "cache", username: "shop", password: "pass-wörd", heard };
}

test("most votes count, and nobody waits for the rest", async (t) => {
  const three = await group(t, [names("10.0.0.1"), names("10.0.0.2"), names("10.0.0.2")]);
  assert.deepEqual(await findMaster(three), { host: "10.0.0.2", port: 6379 });
  const begun = performance.now();
  assert.equal((await findMaster(await group(t, [names("10.0.0.1"), "", names("10.0.0.1")]))).host, "10.0.0.1");
  assert.ok(performance.now() - begun < 250, "the silent one is not waited for");
  assert.match(three.heard[0], /^\*3\r\n\$4\r\nAUTH\r\n\$4\r\nshop\r\n\$10\r\npass-wörd\r\n\*3\r\n\$8\r\nSENTINEL\r\n/);
});

test("one answer has to do when the others are away, after a bounded wait", async (t) => {
  const begun = performance.now();
  const found = await findMaster(await group(t, ["", undefined, names("10.0.0.3")]));
  assert.equal(found.host, "10.0.0.3");
  assert.ok(performance.now() - begun < 600);
});

test("without any answer the reason is told, and no password", async (t) => {
  const cases = [
    [[NOBODY, NOBODY, undefined], /no Sentinel names the master of cache: 127.0.0.1: /],
    [["-WRONGPASS invalid username-password pair\r\n-NOAUTH\r\n"], /WRONGPASS/],
    [["+OK\r\n-NOPERM no permissions\r\n"], /NOPERM/],
    [[""], /no answer within 300 ms/],
  ];
  for (const [answers, reason] of cases) {
    await assert.rejects(findMaster(await group(t, answers)), (error) => {
      assert.match(error.message, reason);
      return !error.message.includes("pass-w");
    });
  }
});

test("a connection goes where the master is, on its own port alone", async (t) => {
  const server = net.createServer((socket) => socket.end("hello"));
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  const { port } = server.address();
  const three = await group(t, [names("127.0.0.1", String(port)), names("127.0.0.1", String(port))]);
  for (const autoSelectFamily of [true, false]) {
    const socket = net.connect({ host: "cache", port, lookup: masterLookup(three, port), autoSelectFamily });
    assert.equal(String((await once(socket, "data"))[0]), "hello");
    socket.destroy();
  }
  const wrong = net.connect({ host: "cache", port: 1, lookup: masterLookup(three, 1) });
  await assert.rejects(once(wrong, "connect"), /Sentinel names 127\.0\.0\.1:\d+, which is not an IP address with port 1/);
});
