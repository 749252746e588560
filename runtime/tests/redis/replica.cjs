"use strict";
// One instance of an app, as far as its cache goes: a process of its own that does what it is told.
const { fork } = require("node:child_process");
const path = require("node:path");
const { poll } = require("./server.cjs");

/** The folder that releases/runtime_files.py has made. */
const handlers = () => {
  const folder = process.env.ROADBED_CACHE_HANDLERS;
  if (!folder) throw new Error("ROADBED_CACHE_HANDLERS: is not set. Name the folder with shared-cache.cjs.");
  return path.join(folder, "shared-cache.cjs");
};

/** Starts one, and waits until it is connected unless `waits` is false. */
async function startReplica(t, redis, env = {}, { waits = true } = {}) {
  const own = { ROADBED_CACHE_URL: redis.url, ROADBED_APP: "shop", ROADBED_RELEASE: "r1", ...env };
  const child = fork(__filename, [handlers()], {
    env: { PATH: process.env.PATH, ...own },
    serialization: "advanced",
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  t.after(() => child.kill("SIGKILL"));
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (log += text));
  const waiting = new Map();
  let number = 0;
  child.on("message", ({ id, answer, error }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(answer);
  });
  const call = (what, ...args) =>
    new Promise((resolve, reject) => {
      waiting.set((number += 1), { resolve, reject });
      child.send({ id: number, what, args });
    });
  const names = ["get", "set", "render", "revalidateTag", "useGet", "useSet", "useTags", "expiration", "metrics"];
  const replica = { child, log: () => log, ...Object.fromEntries(names.map((name) => [name, call.bind(null, name)])) };
  if (waits) await poll(async () => (await replica.metrics()).connected);
  if (waits) await replica.get("/unknown", { kind: "FETCH" }); // has read what was revalidated
  return replica;
}

/** @returns {Promise<object[]>} */
function startReplicas(t, redis, count) {
  return Promise.all(Array.from({ length: count }, () => startReplica(t, redis)));
}

function serve() {
  const { Handler, useCache } = require(process.argv[2]);
  const make = (headers) => new Handler({ _requestHeaders: headers ?? {} });
  const lasting = make(); // Next.js makes a handler for each request
  const does = {
    get: (key, context, headers) => make(headers).get(key, context),
    set: (key, value, context) => make().set(key, value, context),
    /** A request that finds nothing and renders, for `ms`. */
    async render(key, value, context, ms) {
      const one = make();
      const found = await one.get(key, { kind: context.kind });
      if (found) return found;
      await new Promise((done) => setTimeout(done, ms));
      await one.set(key, value, context);
      return null;
    },
    revalidateTag: (tags, profile) => lasting.revalidateTag(tags, profile),
    async useGet(key, softTags) {
      await useCache.refreshTags();
      const entry = await useCache.get(key, softTags);
      return entry && { ...entry, value: Buffer.from(await new Response(entry.value).arrayBuffer()) };
    },
    async useSet(key, entry) {
      const pieces = entry.value.map((piece) => new Uint8Array(piece));
      const value = new ReadableStream({
        async start(controller) {
          for (const piece of pieces) controller.enqueue(piece);
          controller.close();
        },
      });
      await useCache.set(key, Promise.resolve({ ...entry, value }));
    },
    useTags: (tags, profile) => useCache.updateTags(tags, profile),
    expiration: (tags) => useCache.getExpiration(tags),
    metrics: () => globalThis[Symbol.for("roadbed.cache")],
  };
  process.on("message", async ({ id, what, args }) => {
    try {
      process.send({ id, answer: await does[what](...args) });
    } catch (error) {
      process.send({ id, error: String(error.stack) });
    }
  });
}

if (require.main === module) serve();
module.exports = { startReplica, startReplicas };
