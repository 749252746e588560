"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { test } = require("node:test");
const adapter = require("../adapter.cjs");
const { writeBuildInfo } = require("../lib/build-info.cjs");

test("15.4 and 15.5 call without a context", () => {
  assert.equal(adapter.modifyConfig({ images: {} }).output, "standalone");
});

test("only the production build is changed", () => {
  for (const phase of ["phase-development-server", "phase-production-server"]) {
    assert.equal(adapter.modifyConfig({ output: undefined }, { phase }).output, undefined);
  }
});

test("a build that is not complete cannot be described", () => {
  assert.throws(() => writeBuildInfo("/nonexistent"), /required-server-files/);
});

test("a finished build is described beside its manifests", (t) => {
  const project = fs.mkdtempSync(path.join(os.tmpdir(), "roadbed-adapter-"));
  t.after(() => fs.rmSync(project, { recursive: true }));
  write(project, "node_modules/next/package.json", { name: "next", version: "16.4.6" });
  write(project, "node_modules/next/dist/server/lib/route-cache-key.js", {});
  write(project, ".next/required-server-files.json", { config: { deploymentId: "r1" }, relativeAppDir: "apps/web" });
  write(project, ".next/BUILD_ID", "b1");
  write(project, ".next/server/server-reference-manifest.json", { encryptionKey: "a2V5" });
  write(project, ".next/app-path-routes-manifest.json", { "/page": "/" });
  writeBuildInfo(project);
  const info = JSON.parse(fs.readFileSync(path.join(project, ".next/roadbed-build.json"), "utf8"));
  assert.deepEqual(info, {
    schema: 1,
    nextVersion: "16.4.6",
    buildId: "b1",
    deploymentId: "r1",
    distDir: ".next",
    appDir: "apps/web",
    basePath: "",
    assetPrefix: "",
    actionKeyFingerprint: "aedbcece349eeb048bcf19b4a6ac8e747cd2efa852bda2793aeec9c0357dbd94",
    writableDirs: ["cache", "server/route-cache"],
    guarded: true, // there is no routes-manifest.json
    routes: [{ path: "/", router: "app", kind: "page", rendering: "dynamic", revalidate: null, prerendered: [] }],
  });
});

function write(project, name, content) {
  const file = path.join(project, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
}
