"use strict";
// Without ROADBED_CACHE_URL the storefront behaves as with no handler at all: same answers, same files on disk.
const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const { startNext } = require("./next-server.cjs");

const PRODUCTS = ["/products/1", "/products/77", "/products/77/label.png"];
const PAGES = ["/", ...PRODUCTS, "/prices/5", "/reviews/5", "/trends", "/nope"];
const CHANGES = [
  { tag: "prices" },
  { tag: "reviews", profile: "max" },
  { tag: "trends" },
  { path: "/products/77" },
  { path: "/" },
  { tag: "reviews" },
];

function copy(t, change) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "roadbed-local-"));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const exactly = { recursive: true, preserveTimestamps: true, verbatimSymlinks: true };
  fs.cpSync(process.env.ROADBED_STANDALONE, folder, exactly);
  for (const name of ["server.js", ".next/required-server-files.json", ".next/required-server-files.js"]) {
    const file = path.join(folder, name);
    if (fs.existsSync(file)) fs.writeFileSync(file, change(fs.readFileSync(file, "utf8")));
  }
  return folder;
}

function withoutHandlers(text) {
  const less = text.replace(/"cacheHandler":\s*"[^"]*",?/, "").replace(/("cacheHandlers":\s*\{)[^}]*\}/, "$1}");
  assert.notEqual(less, text);
  return less;
}

/** What a visitor sees: ids of renders are told by the order in which they first appear. */
async function visit(server) {
  const known = new Map();
  const number = (id) => known.get(id) ?? known.set(id, known.size).get(id);
  const seen = [];
  const look = async (url) => {
    const { status, headers, cache, bytes } = await server.get(url);
    const ids = String(bytes).match(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g) ?? [];
    seen.push([url, status, cache, headers["cache-control"], headers.vary, [...new Set(ids)].map(number)]);
  };
  for (const change of [undefined, ...CHANGES]) {
    if (change) await server.post("/api/revalidate", change);
    for (const url of PAGES) for (const _ of [1, 2]) await look(url).then(() => sleep(100));
  }
  return seen;
}

function filesOf(folder) {
  return ["server/route-cache", "cache"]
    .flatMap((name) => fs.readdirSync(path.join(folder, ".next", name), { recursive: true }).map(String))
    .map((name) => name.replace(/[0-9a-f]{64}$/, "KEY"))
    .sort();
}

test("nothing is different without a shared cache", async (t) => {
  const folders = [copy(t, withoutHandlers), copy(t, (text) => text)];
  const servers = await Promise.all(folders.map((folder) => startNext(t, {}, folder)));
  const [next, roadbed] = await Promise.all(servers.map(visit));
  assert.deepEqual(roadbed, next);
  assert.deepEqual(filesOf(folders[1]), filesOf(folders[0]));
  assert.ok(filesOf(folders[1]).length > 10);
  t.diagnostic(`${next.length} answers and ${filesOf(folders[0]).length} files on disk are the same`);
});
