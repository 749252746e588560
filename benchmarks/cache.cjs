"use strict";
// Latency of the shared cache with few and with many entries: `node cache.cjs SHARED_CACHE ROUNDS COUNT...`
// For each count a real Redis with as many pages in it, and a process with the handler that releases have.
// They take turns, so that what else the computer does meets all of them. Prints JSON; times in ms.
const { fork } = require("node:child_process");
const { once } = require("node:events");
const { startRedis } = require("../runtime/tests/redis/server.cjs");

/** Tags that many pages have: one of fifty. Pages of the last ten are revalidated, the others are read. */
const CATEGORIES = 50;
const READ = 40;
/** Of each in a round. */
const TIMES = { get: 200, set: 100, revalidate: 20 };
const LIFETIME = { revalidate: 3_600, expire: 86_400 };
const TOGETHER = 200;

const nameOf = (n) => `/products/${n}`;
const categoryOf = (n) => `category-${n % CATEGORIES}`;
const below = (count) => Math.floor(Math.random() * count);

/** A page as Next.js stores it: 2 to 6 kB of HTML, 1 to 2 kB for navigation, its tags in a header. */
function page(n) {
  const html = `<!DOCTYPE html><title>${n}</title>${`<p>Product ${n}</p>`.repeat(100 + (n % 200))}`;
  const tags = ["_N_T_/layout", `_N_T_${nameOf(n)}`, "products", categoryOf(n)].join(",");
  return { kind: "APP_PAGE", html, rscData: Buffer.alloc(1_000 + (n % 1_000), n), headers: { "x-next-cache-tags": tags }, status: 200 };
}

/** What one process does, told by its parent: fill Redis, or measure one round. */
function work(file) {
  const { Handler } = require(file);
  const make = () => new Handler({ _requestHeaders: {} }); // Next.js makes one for each request
  const get = (n) => make().get(nameOf(n), { kind: "APP_PAGE" });
  const set = (n) => make().set(nameOf(n), page(n), { kind: "APP_PAGE", cacheControl: LIFETIME });

  async function fill(count) {
    for (let from = 0; from < count; from += TOGETHER) {
      await Promise.all(Array.from({ length: Math.min(TOGETHER, count - from) }, (_, n) => set(from + n)));
    }
  }

  async function round(count) {
    const times = { get: [], set: [], revalidateTag: [], "get after it": [] };
    const read = () => below(count / CATEGORIES) * CATEGORIES + below(READ);
    const timed = async (what, action) => {
      const begun = performance.now();
      const result = await action();
      times[what].push(performance.now() - begun);
      return result;
    };
    for (let n = 0; n < TIMES.get; n += 1) {
      const which = read();
      if (!(await timed("get", () => get(which)))) throw new Error(`${nameOf(which)} is not there`);
    }
    for (let n = 0; n < TIMES.set; n += 1) await timed("set", () => set(read()));
    for (let n = 0; n < TIMES.revalidate; n += 1) {
      const category = READ + (n % (CATEGORIES - READ));
      const which = below(count / CATEGORIES) * CATEGORIES + category;
      await timed("revalidateTag", () => make().revalidateTag([categoryOf(category)]));
      if (await timed("get after it", () => get(which))) throw new Error(`${nameOf(which)} is still there`);
      await set(which);
    }
    return times;
  }

  const connected = async () => {
    while (!globalThis[Symbol.for("roadbed.cache")].connected) await new Promise((done) => setTimeout(done, 20));
    await get(-1); // reads what was revalidated
  };
  process.on("message", async ({ what, count }) => {
    await connected();
    process.send((await { fill, round }[what](count)) ?? {});
  });
}

async function ask(child, what, count) {
  child.send({ what, count });
  const ended = once(child, "exit").then(([code]) => Promise.reject(new Error(`a process ended with ${code}`)));
  const [answer] = await Promise.race([once(child, "message"), ended]);
  return answer;
}

/** An answer that is late counts with its time, instead of as none. */
const PATIENCE = { ROADBED_CACHE_TIMEOUT_MS: "10000" };

function start(redis, file) {
  const env = { ROADBED_CACHE_URL: redis.url, ROADBED_APP: "shop", ROADBED_RELEASE: "r1", ...PATIENCE };
  return fork(__filename, ["--work", file], { env });
}

const sum = (times) => {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { median: at(0.5), p99: at(0.99), times: times.length };
};

async function measure(file, rounds, counts) {
  const ends = [];
  try {
    const all = [];
    for (const count of counts) {
      const redis = await startRedis({ after: (end) => ends.push(end) });
      const filler = start(redis, file);
      const begun = performance.now();
      await ask(filler, "fill", count);
      filler.kill();
      const filled = (performance.now() - begun) / 1_000;
      if (Number(redis.cli("dbsize")) <= count) throw new Error(`Redis has fewer than ${count} entries`);
      const child = start(redis, file);
      ends.push(() => child.kill());
      all.push({ count, redis, child, filled, times: {} });
    }
    for (let round = 0; round <= rounds; round += 1) {
      for (const one of round % 2 ? all : all.toReversed()) {
        const times = await ask(one.child, "round", one.count);
        if (round === 0) continue; // the first warms up
        for (const [what, some] of Object.entries(times)) (one.times[what] ??= []).push(...some);
      }
    }
    return all.map(({ count, redis, filled, times }) => {
      const info = redis.cli("info");
      const commands = [...info.matchAll(/^cmdstat_([a-z|]+):/gm)].map(([, name]) => name);
      return {
        entries: count,
        keys: Number(redis.cli("dbsize")),
        bytes: Number(info.match(/^used_memory:(\d+)/m)[1]),
        redis: info.match(/^redis_version:(\S+)/m)[1],
        fill_seconds: filled,
        commands,
        operations: Object.fromEntries(Object.entries(times).map(([what, some]) => [what, sum(some)])),
      };
    });
  } finally {
    for (const end of ends.reverse()) end();
  }
}

if (process.argv[2] === "--work") work(process.argv[3]);
else {
  const [file, rounds, ...counts] = process.argv.slice(2);
  measure(file, Number(rounds), counts.map(Number)).then((result) => console.log(JSON.stringify(result)));
}
