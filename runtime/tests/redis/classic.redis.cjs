"use strict";
// Two instances of a plain Pages Router app, one Redis: what visitors see. `ROADBED_CLASSIC` names the folder with
// server.js of a built tests/machines/projects/classic.
const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { load, startNext } = require("./next-server.cjs");
const { poll, startRedis } = require("./server.cjs");

const DATA = "/library/_next/data/library-2.4.1";

/** A copy without the files that the build alone needs; its pages were `built` then, by default when they were. */
function copy(t, built) {
  const from = process.env.ROADBED_CLASSIC;
  if (!from) throw new Error("ROADBED_CLASSIC: is not set. Name the folder with server.js of the built app.");
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "roadbed-classic-"));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  fs.cpSync(from, folder, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  fs.rmSync(path.join(folder, "content"), { recursive: true, force: true });
  const pages = path.join(folder, ".next/server/route-cache");
  for (const name of built ? fs.readdirSync(pages, { recursive: true }) : []) {
    fs.utimesSync(path.join(pages, name), built, built);
  }
  return folder;
}

async function pair(t) {
  const redis = await startRedis(t);
  const env = { ROADBED_CACHE_URL: redis.url, LIBRARY_GREETING: "Good evening" };
  const two = await Promise.all([1, 2].map(() => startNext(t, env, copy(t))));
  for (const server of two) {
    const log = server.log;
    server.made = (page) => log().split("\n").filter((line) => line.startsWith(`made ${page} `)).length;
    server.revalidate = async (url) => {
      const answer = await server.send("POST", "/library/api/revalidate/", { path: url });
      assert.equal(answer.status, 200, String(answer.bytes));
    };
  }
  return { redis, two };
}

const total = (servers, page) => servers.reduce((sum, server) => sum + server.made(page), 0);
const ask = (servers, url) => Promise.all(servers.map((server) => server.get(url)));
const marks = (answers) => new Set(answers.map((answer) => answer.mark("made")));

test("a Pages Router app is one site", async (t) => {
  const { redis, two } = await pair(t);
  const [a, b] = two;

  await t.test("every kind of page answers, in both languages", async () => {
    const expected = {
      "/library/": [200, "Middlemarch"],
      "/library/de/": [200, "Der Wüstenplanet"],
      "/library/books/dune/": [200, ">Dune<"],
      "/library/de/books/dune/": [200, ">Der Wüstenplanet<"],
      "/library/authors/herbert/": [200, ">Dune<"],
      "/library/search/?q=mom": [200, 'data-greeting="Good evening"'],
      "/library/about/": [200, "Open from nine"],
      "/library/de/about/": [200, "Geöffnet von neun"],
      "/library/hours/": [200, "Open from nine"],
      "/library/history/": [200, 'data-paragraphs="2"'],
      "/library/books/nope/": [404, "Not in our collection"],
      "/library/de/nope/": [404, "Nicht im Bestand"],
      "/library/search/?q=crash": [500, "Please ask at the desk"],
      "/library/robots.txt": [200, "Disallow"],
      "/library/api/loans/7/": [200, '"reader":null'],
      "/library/catalogue/dune/": [308, ""],
      "/nope/": [404, "Not in our collection"],
    };
    for (const [url, [status, text]] of Object.entries(expected)) {
      for (const answer of await ask(two, url)) {
        assert.equal(answer.status, status, url);
        assert.ok(String(answer.bytes).includes(text), `${url}: ${answer.bytes}`);
      }
    }
    assert.equal((await a.get("/library/")).headers["x-library-locale"], "en");
    assert.equal((await a.get("/library/about/")).headers["x-frame-options"], "SAMEORIGIN");
    assert.equal((await a.send("PUT", "/library/api/loans/7/", { reader: "Ada" })).status, 201);
    assert.equal((await a.send("POST", "/library/api/loans/7/", {})).status, 405);
    const image = "/library/_next/image/?url=%2Flibrary%2Freading-room.png&w=640&q=75";
    assert.equal((await a.get(image, { accept: "image/webp" })).headers["content-type"], "image/webp");
  });

  await t.test("a page made on demand is made once, with its data", async () => {
    const found = await ask(two, "/library/books/volume-7/");
    assert.equal(total(two, "/books/volume-7 en"), 1);
    assert.equal(new Set(found.map(({ bytes }) => String(bytes))).size, 1);
    for (const answer of await ask(two, "/library/books/volume-7/")) assert.equal(answer.cache, "HIT");
    const data = await ask(two, `${DATA}/en/books/volume-7.json`);
    assert.deepEqual(new Set(data.map(({ bytes }) => JSON.parse(bytes).pageProps.made.id)), marks(found));
    assert.equal(total(two, "/books/volume-7 en"), 1);
  });

  await t.test("with fallback: true the page to wait on comes at once, and its data without a wait", async () => {
    const waiting = await a.get("/library/authors/lem/");
    assert.match(String(waiting.bytes), /data-waiting/);
    const data = await b.get(`${DATA}/en/authors/lem.json`);
    t.diagnostic(`data after the page to wait on: ${Math.round(data.ms)} ms`);
    assert.ok(data.ms < 500, `${data.ms} ms`);
    const found = await ask(two, "/library/authors/lem/");
    assert.deepEqual(marks(found), new Set([JSON.parse(data.bytes).pageProps.made.id]));
    assert.equal(total(two, "/authors/lem en"), 1);
  });

  await t.test("what is not there and what leads elsewhere is remembered too", async () => {
    for (const url of ["/library/books/nothing/", "/library/books/lost/"]) {
      await a.get(url);
      assert.equal((await b.get(url, {}, { follow: false })).cache, "HIT", url);
    }
  });

  await t.test("one regeneration a window under load", async () => {
    const before = total(two, "/ en");
    const stop = load(two, ["/library/"], 20);
    await sleep(21_000);
    const answers = await stop();
    const made = total(two, "/ en") - before;
    t.diagnostic(`21 s of load, window 5 s: ${made} regenerations for ${answers.length} requests at 2 instances`);
    assert.ok(answers.every(({ status }) => status === 200));
    assert.ok(made >= 3 && made <= 5, `${made}`);
    const found = await ask(two, "/library/");
    assert.equal(new Set(found.map(({ bytes }) => String(bytes))).size, 1);
  });

  await t.test("res.revalidate() on one is seen on the other at once", async () => {
    for (const [asked, url] of [
      ["/books/dune", "/library/books/dune/"],
      ["/de/books/dune", "/library/de/books/dune/"],
      ["/authors/herbert", "/library/authors/herbert/"],
      ["/books/volume-7", "/library/books/volume-7/"],
    ]) {
      await ask(two, url);
      await sleep(300); // what was stale has been made
      const old = await b.get(url);
      await a.revalidate(asked);
      const begun = performance.now();
      const found = await ask([b, a], url);
      t.diagnostic(`${url}: new on the other after ${Math.round(performance.now() - begun)} ms`);
      assert.equal(marks(found).size, 1, url);
      assert.ok(!marks(found).has(old.mark("made")), url);
      for (const answer of found) assert.equal(answer.cache, "HIT", url);
    }
  });

  await t.test("what was revalidated does not come back from the build", async () => {
    const url = "/library/authors/herbert/";
    const { id } = JSON.parse(fs.readFileSync(seedOf("en/authors/herbert.json"))).pageProps.made;
    const built = new Date(); // later than the first that Redis knows
    await sleep(50);
    await a.revalidate("/authors/herbert");
    for (const lose of [() => redis.cli("del", ...redis.keys("*authors/herbert*")), () => redis.cli("flushall")]) {
      const young = await startNext(t, { ROADBED_CACHE_URL: redis.url }, copy(t, built)); // it remembers nothing
      lose();
      await young.get(url);
      await poll(async () => (await young.get(url)).mark("made") !== id, 3);
    }
  });

  await t.test("a page that the build alone can make stays as it is", async () => {
    const url = "/library/history/";
    redis.cli("flushall");
    const failed = () => two.reduce((sum, server) => sum + (server.log().match(/ENOENT.*history\.md/g) ?? []).length, 0);
    const before = failed();
    for (let n = 0; n < 40; n += 1) {
      for (const answer of await ask(two, url)) {
        assert.equal(answer.status, 200);
        assert.match(String(answer.bytes), /data-paragraphs="2"/);
      }
      await sleep(100);
    }
    for (const answer of await ask(two, url)) {
      assert.equal(answer.cache, "HIT");
      assert.match(answer.headers["cache-control"], /s-maxage=31536000/);
    }
    const tries = failed() - before;
    t.diagnostic(`${tries} lines of a failed try after Redis was emptied`);
    assert.ok(tries > 0 && tries <= 4, `${tries}`);
  });

  await t.test("the page for what is not there shows nobody's address", async () => {
    redis.cli("flushall");
    for (const url of ["/library/de/private/4711/", "/library/books/private-4711/", "/library/de/books/private-4711/"]) {
      for (const _ of [1, 2]) for (const answer of await ask(two, url)) assert.doesNotMatch(String(answer.bytes), /4711/);
      await sleep(200);
    }
  });

  await t.test("Redis had one kind of key, no forbidden command and no error", () => {
    assert.ok(redis.keys().every((key) => key.startsWith("rb:shop:")));
    assert.doesNotMatch(redis.cli("info", "errorstats"), /NOPERM|WRONGTYPE|ERR:/);
    for (const server of two) assert.doesNotMatch(server.log(), /unhandled/i);
  });
});

test("res.revalidate() while Redis hangs is not lost", async (t) => {
  const { redis, two } = await pair(t);
  const [a, b] = two;
  const url = "/library/books/middlemarch/";
  await ask(two, url);
  await sleep(500);
  const old = marks(await ask(two, url));
  assert.equal(old.size, 1);
  redis.signal("SIGSTOP");
  await a.revalidate("/books/middlemarch");
  assert.ok(!old.has((await a.get(url)).mark("made")), "at least where it was asked for");
  redis.signal("SIGCONT");
  const begun = performance.now();
  await poll(async () => {
    const here = await a.get(url);
    assert.ok(!old.has(here.mark("made")), "nor does the old one come back there");
    return !old.has((await b.get(url)).mark("made"));
  }, 6);
  t.diagnostic(`new everywhere ${Math.round(performance.now() - begun)} ms after Redis was back`);
});

function seedOf(name) {
  const root = path.join(process.env.ROADBED_CLASSIC, ".next/server/route-cache/PAGES");
  const found = fs.readdirSync(root).map((route) => path.join(root, route, "$", name));
  return found.find((file) => fs.existsSync(file));
}
