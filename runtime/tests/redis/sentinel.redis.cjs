"use strict";
// A group of three: its master dies, hangs or is replaced, and the app follows. Servers and Sentinels are real.
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { HOSTS, startGroup } = require("./group.cjs");
const { startReplica } = require("./replica.cjs");
const { poll, startRedis } = require("./server.cjs");

const page = (html) => ({ kind: "APP_PAGE", html, headers: { "x-next-cache-tags": "t" } });
const APP = { kind: "APP_PAGE" };
const long = { ...APP, cacheControl: { revalidate: 3600 } };

const startPair = (t, group) => Promise.all([1, 2].map(() => startReplica(t, group, group.env)));

/** Requests of both, until one finds what the other has just made; how long that and the longest one took, in ms. */
async function shared(a, b, name) {
  const begun = performance.now();
  let longest = 0;
  for (let n = 0; performance.now() < begun + 20_000; n += 1) {
    const one = performance.now();
    await a.set(`/${name}-${n}`, page(name), long);
    const found = await b.get(`/${name}-${n}`, APP);
    assert.equal((await b.get("/seen", APP)).value.html, "seen");
    longest = Math.max(longest, performance.now() - one);
    if (found?.value.html === name) return { ms: performance.now() - begun, longest };
    await sleep(20);
  }
  throw new Error(`not shared again: ${a.log()}${b.log()}`);
}

test("the master dies: entries are served from memory, then both instances use its successor", async (t) => {
  const group = await startGroup(t);
  const [a, b] = await startPair(t, group);
  await a.set("/seen", page("seen"), long);
  assert.equal((await b.get("/seen", APP)).value.html, "seen");
  await group.kill(HOSTS[0]);
  const { ms, longest } = await shared(a, b, "after");
  const next = group.master();
  t.diagnostic(`shared again after ${ms.toFixed(0)} ms (a master counts as down after 1000); longest step ${longest.toFixed(0)} ms`);
  assert.ok(HOSTS.slice(1).includes(next), next);
  assert.ok(longest < 500, `${longest} ms`);
  assert.match(group.cli(next, "--raw", "keys", "rb:shop:r1:*after*"), /after/);
  group.start(HOSTS[0], next);
  await poll(() => /master_link_status:up/.test(group.cli(HOSTS[0], "info", "replication")));
  await shared(a, b, "back");
});

test("the master hangs: the connection to it is given up", async (t) => {
  const group = await startGroup(t);
  const [a, b] = await startPair(t, group);
  await a.set("/seen", page("seen"), long);
  assert.equal((await b.get("/seen", APP)).value.html, "seen");
  group.signal(HOSTS[0], "SIGSTOP");
  await sleep(100);
  const { ms, longest } = await shared(a, b, "after");
  t.diagnostic(`shared again after ${ms.toFixed(0)} ms; longest step ${longest.toFixed(0)} ms`);
  assert.ok(longest < 500, `${longest} ms`);
  group.signal(HOSTS[0], "SIGCONT");
  await poll(() => /role:slave/.test(group.cli(HOSTS[0], "info", "replication")), 20);
  await shared(a, b, "back");
});

test("a planned change of the master is followed at once", async (t) => {
  const group = await startGroup(t);
  const [a, b] = await startPair(t, group);
  await a.set("/seen", page("seen"), long);
  assert.equal((await b.get("/seen", APP)).value.html, "seen");
  assert.equal(group.ask(HOSTS[0], "sentinel", "failover", "cache"), "OK");
  await poll(() => HOSTS.every((host) => group.master(host) !== HOSTS[0]), 20);
  const { ms } = await shared(a, b, "after");
  assert.ok(ms < 2_500, `${ms} ms`);
  assert.equal((await a.metrics()).mode, "shared");
});

test("without a Sentinel at the start nobody waits, and one is enough later", async (t) => {
  const group = await startGroup(t);
  for (const host of HOSTS) group.signal(`sentinel-${host}`, "SIGSTOP");
  const a = await startReplica(t, group, group.env, { waits: false });
  const begun = performance.now();
  assert.equal(await a.get("/p", APP), null);
  assert.ok(performance.now() - begun < 1_500, "the start of the process included");
  await a.set("/p", page("x"), long);
  assert.equal((await a.get("/p", APP)).value.html, "x", "from memory");
  group.signal(`sentinel-${HOSTS[1]}`, "SIGCONT");
  await poll(async () => (await a.metrics()).connected);
  await a.set("/q", page("y"), long);
  assert.equal((await (await startReplica(t, group, group.env)).get("/q", APP)).value.html, "y");
});

test("a server that takes no writes is left, and asked for again", async (t) => {
  const redis = await startRedis(t);
  const a = await startReplica(t, redis);
  await sleep(1_100);
  redis.cli("replicaof", "127.0.0.1", "1");
  const connections = () => Number(/total_connections_received:(\d+)/.exec(redis.cli("info", "stats"))[1]);
  const before = connections();
  await a.set("/p", page("x"), long);
  assert.equal((await a.get("/p", APP)).value.html, "x", "from memory");
  await poll(async () => (await a.metrics()).connected && connections() > before + 1); // redis-cli is one
  redis.cli("replicaof", "no", "one");
  const b = await startReplica(t, redis);
  await poll(async () => {
    await a.set("/q", page("y"), long);
    return (await b.get("/q", APP))?.value.html === "y";
  });
});
