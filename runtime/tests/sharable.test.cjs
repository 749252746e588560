"use strict";
const assert = require("node:assert/strict");
const { once } = require("node:events");
const http = require("node:http");
const { test } = require("node:test");
const { markSharable } = require("../lib/sharable.cjs");

/** What the client sees of an answer that `answer` makes. */
async function headers(t, answer) {
  const server = http.createServer((request, response) => {
    response.setHeader("x-roadbed-release", "r1"); // as instance.cjs does
    markSharable(request, response, () => false);
    answer(response);
  });
  t.after(() => server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  const [response] = await once(http.get({ port: server.address().port, agent: false }), "response");
  response.resume();
  return response.headers;
}

const set = (value, more = {}) => (response) => {
  response.setHeader("Cache-Control", value);
  for (const [name, text] of Object.entries(more)) response.setHeader(name, text);
  response.end("x");
};

for (const value of ["s-maxage=60, stale-while-revalidate=10", "public, max-age=0, s-maxage=1", "S-MaxAge=31536000"]) {
  test(`marked: ${value}`, async (t) => {
    assert.equal((await headers(t, set(value)))["x-accel-buffering"], "yes");
  });
}

for (const value of [
  "private, no-cache, no-store, max-age=0, must-revalidate",
  "s-maxage=0",
  "max-age=60",
  "private, s-maxage=60",
  "xs-maxage=60",
  "",
]) {
  test(`not marked: ${value || "nothing"}`, async (t) => {
    assert.equal((await headers(t, set(value)))["x-accel-buffering"], undefined);
  });
}

test("what the app says itself stays", async (t) => {
  assert.equal((await headers(t, set("s-maxage=60", { "X-Accel-Buffering": "no" })))["x-accel-buffering"], "no");
});

test("headers may come with writeHead, in each of its forms", async (t) => {
  const given = { "cache-control": "s-maxage=5" };
  for (const words of [
    [200, given],
    [200, "Fine", given],
    [200, ["cache-control", "s-maxage=5"]],
  ]) {
    const seen = await headers(t, (response) => response.writeHead(...words).end("x"));
    assert.deepEqual([seen["x-accel-buffering"], seen["cache-control"]], ["yes", "s-maxage=5"]);
  }
  const seen = await headers(t, (response) => {
    response.setHeader("cache-control", "s-maxage=5");
    response.writeHead(200, { "Cache-Control": "no-store" }).end("x");
  });
  assert.equal(seen["x-accel-buffering"], undefined, "what comes with writeHead wins");
});

test("a stream without s-maxage is not marked, and its first piece goes out at once", async (t) => {
  const seen = await headers(t, (response) => {
    response.write("a");
    setTimeout(() => response.end("b"), 20);
  });
  assert.equal(seen["x-accel-buffering"], undefined);
});
