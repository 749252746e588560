"use strict";
/**
 * What Roadbed sets in a project's Next.js configuration. One entry a setting: `apply` gets the complete
 * configuration (Next.js has merged its defaults), the environment and the paths of the cache handlers, changes
 * the first in place, and returns a note for the build log or nothing. The project's own value wins.
 */

const MIB = 1024 * 1024;

/** Per server process. Next.js alone would take half of the free disk (16.4, disk-lru-cache). */
const IMAGE_CACHE_MIB = 256;

const NOT_SHARED = ": Roadbed does not share what it caches";

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
    name: "generateBuildId",
    apply(config, env) {
      // A version that has a default names each build at random; later ones have none, and with a deployment id one
      // name for all builds (16.4, build/index.js, getBuildId).
      const own = config.generateBuildId;
      const release = env.ROADBED_RELEASE;
      if (release && typeof own === "function") config.generateBuildId = async () => (await own()) ?? release;
      return undefined;
    },
  },
  {
    name: "assetPrefix",
    apply(config, env) {
      const prefix = env.ROADBED_ASSET_PREFIX;
      if (!prefix) return undefined;
      // Next.js has made it the base path where a project has one.
      const own = config.assetPrefix !== (config.basePath ?? "") ? config.assetPrefix : "";
      if (own) return own === prefix ? undefined : kept("assetPrefix", own);
      config.assetPrefix = prefix;
      if (config.images) config.images = { ...config.images, remotePatterns: withPlace(config.images, prefix) };
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
  {
    name: "cacheHandler",
    apply(config, _env, handlers) {
      if (config.cacheHandler) return kept("cacheHandler", config.cacheHandler, NOT_SHARED);
      if (handlers) config.cacheHandler = handlers.cacheHandler;
      return undefined;
    },
  },
  {
    name: "cacheHandlers",
    apply(config, _env, handlers) {
      if (!usesUseCache(config)) return undefined;
      // 15 has it under experimental. Keys without a value are present, and would win over ours when merged.
      const place = "cacheHandlers" in config ? config : config.experimental;
      if (!place || !("cacheHandlers" in place)) return undefined;
      const own = Object.fromEntries(Object.entries(place.cacheHandlers ?? {}).filter(([, path]) => path));
      if (handlers) place.cacheHandlers = { default: handlers.useCache, remote: handlers.useCache, ...own };
      const names = Object.keys(own).join(", ");
      return names ? kept("cacheHandlers", names, NOT_SHARED) : undefined;
    },
  },
];

/**
 * 'use cache' works behind a switch alone. With the switch on, Next.js refuses routes of the edge runtime; with it
 * off it has them, and Turbopack (16.4.6) cannot build an edge route handler when cacheHandlers are set.
 */
function usesUseCache({ cacheComponents, experimental = {} }) {
  return Boolean(cacheComponents || experimental.cacheComponents || experimental.useCache || experimental.dynamicIO);
}

/** Imported images lie there too, and the optimiser may fetch them; server/config.js does so for a project's own. */
function withPlace({ remotePatterns }, prefix) {
  const { protocol, hostname, port } = new URL(prefix);
  return [...(remotePatterns ?? []), { protocol: protocol.slice(0, -1), hostname, port }];
}

function kept(name, value, consequence = "") {
  return `kept the app's own ${name} (${value})${consequence}`;
}

/**
 * Applies every setting to `config` in place.
 * @param {{cacheHandler: string, useCache: string}} [handlers] absolute paths of the cache handlers
 * @returns {string[]} a note for each setting that the app has made itself
 * @throws {Error} when the project cannot be deployed as a server, or an environment value is unusable
 */
function applySettings(config, env, handlers) {
  return settings.map((setting) => setting.apply(config, env, handlers)).filter(Boolean);
}

module.exports = { applySettings };
