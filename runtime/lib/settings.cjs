"use strict";
/**
 * What Roadbed sets in a project's Next.js configuration. One entry a setting: `apply` gets the complete
 * configuration (Next.js has merged its defaults) and the environment, changes the former in place, and
 * returns a note for the build log or nothing. The project's own value wins.
 */

const MIB = 1024 * 1024;

/** Per server process. Next.js alone would take half of the free disk (16.4, disk-lru-cache). */
const IMAGE_CACHE_MIB = 256;

const settings = [
  {
    name: "output",
    apply(config) {
      if (config.output === "export") {
        throw new Error(
          "next.config: output: \"export\" makes a static site, and there is no server to run. " +
            "Remove it to deploy with Roadbed, or serve the exported folder with any web server.",
        );
      }
      config.output = "standalone";
    },
  },
  {
    name: "deploymentId",
    apply(config, env) {
      if (config.deploymentId) return kept("deploymentId", config.deploymentId);
      const release = env.ROADBED_RELEASE;
      if (!release) return undefined;
      // The characters Next.js accepts (build/index.js, deploymentid-invalid-characters).
      if (!/^[A-Za-z0-9_-]{1,64}$/.test(release)) {
        throw new Error(
          `ROADBED_RELEASE: ${JSON.stringify(release)} cannot be a deployment id. ` +
            "Use 1 to 64 letters, digits, hyphens and underscores.",
        );
      }
      config.deploymentId = release;
      return undefined;
    },
  },
  {
    name: "images.maximumDiskCacheSize",
    apply(config, env) {
      const images = config.images;
      // Versions which know the key list it in their defaults, without a value.
      if (!images || !("maximumDiskCacheSize" in images)) return undefined;
      if (images.maximumDiskCacheSize !== undefined) {
        return kept("images.maximumDiskCacheSize", images.maximumDiskCacheSize);
      }
      const mib = Number(env.ROADBED_IMAGE_CACHE_MIB || IMAGE_CACHE_MIB);
      if (!Number.isInteger(mib) || mib < 0) {
        throw new Error(`ROADBED_IMAGE_CACHE_MIB: ${env.ROADBED_IMAGE_CACHE_MIB} is not a whole number of MiB.`);
      }
      config.images = { ...images, maximumDiskCacheSize: mib * MIB };
      return undefined;
    },
  },
];

function kept(name, value) {
  return `kept the app's own ${name} (${value})`;
}

/**
 * Applies every setting to `config` in place.
 * @returns {string[]} a note for each setting that the app has made itself
 * @throws {Error} when the project cannot be deployed as a server, or an environment value is unusable
 */
function applySettings(config, env) {
  return settings.map((setting) => setting.apply(config, env)).filter(Boolean);
}

module.exports = { applySettings };
