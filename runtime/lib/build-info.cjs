"use strict";
/**
 * Describes a finished build in `<distDir>/roadbed-build.json`, from the files which `next build` leaves.
 * Read by the release builder. `node runtime/describe.cjs PROJECT [DISTDIR]` writes it.
 */
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const { isGuarded } = require("./guarded.cjs");
const { describeRoutes } = require("./routes.cjs");

const FILE = "roadbed-build.json";

/**
 * @param {string} projectDir absolute path of the project
 * @param {string} [distDir] absolute path of the build, default `<projectDir>/.next`
 * @returns {string} the path of the file
 * @throws {Error} when there is no complete build
 */
function writeBuildInfo(projectDir, distDir = path.join(projectDir, ".next")) {
  const file = path.join(distDir, FILE);
  fs.writeFileSync(file, `${JSON.stringify(describeBuild(projectDir, distDir), null, 2)}\n`);
  return file;
}

function describeBuild(projectDir, distDir) {
  const read = (name) => readJson(path.join(distDir, name));
  const required = read("required-server-files.json");
  if (!required) throw new Error(`${distDir}: no required-server-files.json. Run next build first.`);
  const { config } = required;
  return {
    schema: 1,
    nextVersion: nextVersion(projectDir),
    buildId: fs.readFileSync(path.join(distDir, "BUILD_ID"), "utf8").trim(),
    deploymentId: config.deploymentId || null,
    distDir: path.relative(projectDir, distDir),
    // In a monorepo the standalone output mirrors the repository: the server is in a subfolder of it.
    appDir: required.relativeAppDir ?? "",
    basePath: config.basePath ?? "",
    assetPrefix: config.assetPrefix ?? "",
    actionKeyFingerprint: fingerprint(read("server/server-reference-manifest.json")?.encryptionKey),
    writableDirs: writableDirs(projectDir, config),
    guarded: isGuarded(distDir),
    routes: describeRoutes(read),
  };
}

/**
 * Folders under the build folder that a running server writes to. 15.5 and 16 keep rendered pages in a
 * folder of their own; before, they lie among the compiled routes (file-system-cache.js, getFilePath).
 */
function writableDirs(projectDir, config) {
  if (config.cacheHandler && config.images?.customCacheHandler) return [];
  const separate = resolveNext(projectDir, "next/dist/server/lib/route-cache-key");
  return separate ? ["cache", "server/route-cache"] : ["cache", "server/app", "server/pages"];
}

/** SHA-256 of the base64 text of the Server Action key, hex; tells keys apart without showing them. */
function fingerprint(key) {
  return key ? createHash("sha256").update(key).digest("hex") : null;
}

function nextVersion(projectDir) {
  const file = resolveNext(projectDir, "next/package.json");
  if (!file) throw new Error(`${projectDir}: next is not installed. Run npm ci first.`);
  return readJson(file).version;
}

function resolveNext(projectDir, request) {
  try {
    return require.resolve(request, { paths: [projectDir] });
  } catch {
    return undefined;
  }
}

function readJson(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw new Error(`${file}: ${error.message}`);
  }
}

module.exports = { writeBuildInfo, describeBuild };
