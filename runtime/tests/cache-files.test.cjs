"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { test } = require("node:test");
const { placeCacheFiles } = require("../lib/cache-files.cjs");

const NAMES = ["cache-handler.cjs", "shared-cache.cjs", "use-cache.cjs"];

test("the handlers are put below the project's packages, and replaced by newer ones", (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "roadbed-handlers-"));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const [source, project] = ["source", "project"].map((name) => path.join(folder, name));
  for (const place of [source, project]) fs.mkdirSync(place);
  assert.equal(placeCacheFiles(project, source), undefined, "without finished handlers");
  for (const text of ["old", "new"]) {
    for (const name of NAMES) fs.writeFileSync(path.join(source, name), text);
    const placed = placeCacheFiles(project, source);
    assert.equal(placed.cacheHandler, path.join(project, "node_modules/.roadbed/cache-handler.cjs"));
    assert.equal(fs.readFileSync(placed.useCache, "utf8"), text);
    assert.deepEqual(fs.readdirSync(path.join(project, "node_modules/.roadbed")), NAMES);
  }
});
