"use strict";
/**
 * Build adapter: `NEXT_ADAPTER_PATH=/abs/runtime/adapter.cjs next build`, Next.js 15.4 and later.
 * Sets what a self-hosted release needs; next.config stays untouched. There is no `onBuildComplete`: for one, 15.5
 * lists the outputs of the build, and gives up on a 404 page with getStaticProps in several languages.
 * https://nextjs.org/docs/app/api-reference/config/next-config-js/adapterPath
 */
const { placeCacheFiles } = require("./lib/cache-files.cjs");
const { applySettings } = require("./lib/settings.cjs");

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
};
