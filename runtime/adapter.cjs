"use strict";
/**
 * Build adapter: `NEXT_ADAPTER_PATH=/abs/runtime/adapter.cjs next build`, Next.js 15.4 and later.
 * Sets what a self-hosted release needs and records what the build contains; next.config stays untouched.
 * https://nextjs.org/docs/app/api-reference/config/next-config-js/adapterPath
 */
const { placeCacheFiles } = require("./lib/cache-files.cjs");
const { applySettings } = require("./lib/settings.cjs");
const { writeBuildInfo } = require("./lib/build-info.cjs");

const BUILD = "phase-production-build";

module.exports = {
  name: "roadbed",

  /** Called in each process of the build; 15.4 and 15.5 pass no context. */
  modifyConfig(config, context) {
    if ((context?.phase ?? BUILD) !== BUILD) return config;
    const handlers = placeCacheFiles(context?.projectDir ?? process.cwd());
    const notes = applySettings(config, process.env, handlers);
    if (!process.env.ROADBED_ADAPTER_SAID) for (const note of notes) console.log(`roadbed: ${note}`);
    process.env.ROADBED_ADAPTER_SAID = "1"; // inherited by the build's workers: one line, not one per process
    return config;
  },

  /** An exception here would fail the build, so the build tool looks for the file instead. */
  onBuildComplete(context) {
    try {
      // 15.4 and 15.5 pass neither folder.
      const file = writeBuildInfo(context?.projectDir ?? process.cwd(), context?.distDir);
      console.log(`roadbed: wrote ${file}`);
    } catch (error) {
      console.warn(`roadbed: could not describe the build: ${error.message}`);
    }
  },
};
