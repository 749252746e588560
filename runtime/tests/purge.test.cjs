"use strict";
const assert = require("node:assert/strict");
const { once } = require("node:events");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { Purge } = require("../cache/purge.cjs");
const { tellCommand, tellUrl } = require("../cache/purge-call.cjs");

/** What goes together here, ms. */
const TOGETHER = 100;

/** A Purge whose calls are kept in `calls`, with their times. */
function purge({ waitMs = 0, intervalMs = 0, pausesMs = [100, 100], tell } = {}) {
  const calls = [];
  const metrics = { purged: 0, purge_failed: 0 };
  const keep = async (body) => {
    calls.push({ at: Date.now(), ...JSON.parse(body) });
    await tell?.(calls.length);
  };
  const options = { waitMs, intervalMs, pausesMs, togetherMs: TOGETHER };
  const made = new Purge({ tell: keep, app: "shop", release: "r1", metrics, ...options });
  return { made, calls, metrics };
}

async function until(condition, ms = 5_000) {
  const end = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms`);
    await sleep(10);
  }
}

/** Just after the time for what goes together has begun. */
async function begin() {
  await sleep(TOGETHER + 5 - (Date.now() % TOGETHER));
}

test("what is revalidated within a moment is one call, with tags and paths told apart", async () => {
  const { made, calls, metrics } = purge();
  await begin();
  made.add(["prices", "_N_T_/products/2"]);
  made.add(["prices", "_N_T_/products/[id]/page"]);
  assert.ok(made.pending);
  await until(() => metrics.purged === 1);
  const { at, ...body } = calls[0];
  assert.deepEqual(body, {
    app: "shop",
    release: "r1",
    everything: false,
    tags: ["prices"],
    paths: ["/products/2", "/products/[id]/page"],
  });
  assert.ok(!made.pending);
  assert.equal(calls.length, 1);
});

test("a call waits until no proxy has the old page, also for a tag that is revalidated again", async () => {
  const { made, calls } = purge({ waitMs: 300 });
  await begin();
  const first = Date.now();
  made.add(["a"]);
  await sleep(1.5 * TOGETHER);
  const second = Date.now();
  made.add(["a"]);
  await until(() => calls.length === 2);
  assert.ok(calls[0].at - first >= 300 && calls[0].at < second + 300, `${calls[0].at - first} ms`);
  assert.ok(calls[1].at - second >= 300, `${calls[1].at - second} ms`);
});

test("one call at a time, and never sooner than the interval", async () => {
  let running = 0;
  let most = 0;
  const { made, calls } = purge({
    intervalMs: 200,
    tell: async () => {
      most = Math.max(most, (running += 1));
      await sleep(150);
      running -= 1;
    },
  });
  for (let n = 0; n < 25; n += 1) {
    made.add([`t${n}`]);
    await sleep(40);
  }
  await until(() => !made.pending);
  assert.equal(most, 1);
  assert.equal(new Set(calls.flatMap(({ tags }) => tags)).size, 25);
  for (let n = 1; n < calls.length; n += 1) assert.ok(calls[n].at - calls[n - 1].at >= 195);
});

test("too many tags become one word", async () => {
  const { made, calls } = purge();
  made.add(Array.from({ length: 1_001 }, (_, n) => `t${n}`));
  await until(() => calls.length === 1);
  assert.deepEqual([calls[0].everything, calls[0].tags, calls[0].paths], [true, [], []]);
});

test("a call that fails is tried again, then given up and counted; the next one is made", async () => {
  const { made, calls, metrics } = purge({
    tell: async (turn) => {
      if (turn === 1) throw new Error("away");
      if (turn === 3) throw Object.assign(new Error("it answers 403"), { final: true });
    },
  });
  made.add(["a"]);
  await until(() => metrics.purged === 1);
  assert.deepEqual([calls.length, calls[1].tags], [2, ["a"]]);
  made.add(["b"]);
  await until(() => metrics.purge_failed === 1);
  assert.equal(calls.length, 3, "what is final is not tried again");
  made.add(["c"]);
  await until(() => metrics.purged === 2);
});

test("at the end what waits is told, without a pause between tries", async () => {
  const { made, calls, metrics } = purge({
    waitMs: 0,
    pausesMs: [60_000],
    tell: async () => {
      throw new Error("away");
    },
  });
  made.add(["a"]);
  await until(() => calls.length === 1);
  const begun = Date.now();
  await made.flush();
  assert.ok(Date.now() - begun < 500, "the pause of the first try was cut short");
  assert.equal(calls.length, 2);
  assert.equal(metrics.purge_failed, 1);
  made.add(["b"]);
  await made.flush();
  assert.deepEqual(calls[2].tags, ["b"]);
});

async function receiver(t, answer) {
  const seen = [];
  const server = http.createServer(async (request, response) => {
    const chunks = await request.toArray();
    seen.push({ method: request.method, headers: request.headers, body: Buffer.concat(chunks).toString() });
    answer(response);
  });
  t.after(() => server.closeAllConnections());
  t.after(() => server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { seen, url: new URL(`http://127.0.0.1:${server.address().port}/purge`) };
}

test("a URL gets a POST with the token", async (t) => {
  const { seen, url } = await receiver(t, (response) => response.writeHead(204).end());
  await tellUrl(url, "t0ken")('{"tags":["a"]}', 1_000);
  const [{ method, headers, body }] = seen;
  assert.deepEqual([method, headers.authorization, headers["content-type"], body], [
    "POST",
    "Bearer t0ken",
    "application/json",
    '{"tags":["a"]}',
  ]);
  assert.equal(headers["content-length"], "14");
});

test("what a URL answers decides whether it is asked again", async (t) => {
  for (const [status, final] of [
    [403, true],
    [302, true],
    [429, false],
    [500, false],
  ]) {
    const { url } = await receiver(t, (response) => response.writeHead(status).end());
    await assert.rejects(tellUrl(url)("{}", 1_000), { message: `it answers ${status}`, final });
  }
  const { url } = await receiver(t, () => {});
  await assert.rejects(tellUrl(url)("{}", 100), ({ message, final }) => message === "no answer in 0.1 s" && !final);
});

test("a command gets JSON and the token, and nothing else of the environment", async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "purge-"));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  process.env.SECRET_OF_THE_APP = "x";
  const script = 'cat > "$1/in"; env > "$1/env"';
  await tellCommand(["/bin/sh", "-c", script, "sh", folder], "t0ken")('{"tags":["a"]}', 5_000);
  assert.equal(fs.readFileSync(path.join(folder, "in"), "utf8"), '{"tags":["a"]}');
  const env = fs.readFileSync(path.join(folder, "env"), "utf8");
  assert.match(env, /^ROADBED_PURGE_TOKEN=t0ken$/m);
  assert.doesNotMatch(env, /SECRET_OF_THE_APP/);
});

test("a command that fails, hangs or is not there", async () => {
  await assert.rejects(tellCommand(["/bin/false"])("{}", 5_000), /\/bin\/false: ended with 1/);
  await assert.rejects(tellCommand(["/bin/sleep", "9"])("{}", 100), /\/bin\/sleep: no end in 0.1 s/);
  await assert.rejects(tellCommand(["/no/such"])("{}", 5_000), /\/no\/such: ENOENT/);
});
