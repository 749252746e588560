"use strict";
/** `node describe.cjs PROJECT [DISTDIR]`: writes roadbed-build.json into a finished build. */
const path = require("node:path");
const { writeBuildInfo } = require("./lib/build-info.cjs");

const [project, dist] = process.argv.slice(2).map((name) => path.resolve(name));
if (!project) {
  console.error("usage: node describe.cjs PROJECT [DISTDIR]");
  process.exit(2);
}
try {
  console.log(writeBuildInfo(project, dist));
} catch (error) {
  console.error(error.message);
  process.exit(4);
}
