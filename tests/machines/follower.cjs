"use strict";
// One instance of an app, as far as Redis goes, on a machine. The first line of its input is the environment, each
// one after it a request: [what, ...]. Each is answered by a line of JSON.
const readline = require("node:readline");

const page = (html) => ({ kind: "APP_PAGE", html, headers: {} });

/** The durable instance, as an app with node-redis uses it (https://github.com/redis/node-redis/blob/master/docs/sentinel.md). */
async function openDurable(env) {
  const { createSentinel } = require("@redis/client");
  const login = { username: env.REDIS_USERNAME, password: env.REDIS_PASSWORD };
  const sentinel = createSentinel({
    name: env.REDIS_SENTINEL_MASTER,
    sentinelRootNodes: env.REDIS_SENTINELS.split(",").map((one) => {
      const [host, port] = one.split(":");
      return { host, port: Number(port) };
    }),
    // Without these, a host that is gone without a word is noticed late.
    scanInterval: 5_000,
    sentinelClientOptions: { ...login, socket: { connectTimeout: 1_000 } },
    nodeClientOptions: login,
  });
  sentinel.on("error", () => {}).on("client-error", () => {});
  return sentinel.connect();
}

function start(env) {
  Object.assign(process.env, env);
  const { Handler } = require("./shared-cache.cjs");
  const handler = new Handler({ _requestHeaders: {} });
  let durable;
  return {
    connected: () => globalThis[Symbol.for("roadbed.cache")].connected,
    async put(key, html) {
      await handler.set(key, page(html), { kind: "APP_PAGE", cacheControl: { revalidate: 3600 } });
      return "kept";
    },
    read: async (key) => (await handler.get(key, { kind: "APP_PAGE" }))?.value.html ?? null,
    /** Writes, and waits until `replicas` replicas have it; returns how many do. */
    async store(key, value, replicas) {
      durable ??= await openDurable(env);
      return durable.use(async (client) => {
        await client.set(key, value);
        return client.wait(replicas, 1_000);
      });
    },
    /** What came of a write, which may fail while there is no master. */
    async try_store(key, value) {
      const late = new Promise((done) => setTimeout(done, 1_000, "no answer"));
      return Promise.race([durable.set(key, value).catch((error) => error.message), late]);
    },
    async load(key) {
      durable ??= await openDurable(env);
      return durable.get(key);
    },
  };
}

let does;
const input = readline.createInterface({ input: process.stdin }).on("close", () => process.exit());
input.on("line", async (line) => {
  const said = JSON.parse(line);
  if (!does) {
    does = start(said);
    return console.log('"started"');
  }
  const begun = performance.now();
  try {
    const answer = await does[said[0]](...said.slice(1));
    console.log(JSON.stringify({ answer, ms: performance.now() - begun }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error.stack), ms: performance.now() - begun }));
  }
});
