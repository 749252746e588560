"use strict";
/** What the environment says of the shared cache. Without ROADBED_CACHE_URL there is none. */

const BUILD = "phase-production-build";
const MIB = 1024 * 1024;

/** Name in the environment, default, lowest value. */
const NUMBERS = {
  timeoutMs: ["ROADBED_CACHE_TIMEOUT_MS", 100, 1],
  breakerMs: ["ROADBED_CACHE_BREAKER_MS", 2_000, 0],
  leaseMs: ["ROADBED_CACHE_LEASE_MS", 10_000, 1],
  waitMs: ["ROADBED_CACHE_WAIT_MS", 1_000, 0],
  maxAgeSeconds: ["ROADBED_CACHE_MAX_AGE", 30 * 86_400, 60],
  memoryMib: ["ROADBED_CACHE_MEMORY_MIB", 32, 0],
  entryMib: ["ROADBED_CACHE_ENTRY_MIB", 8, 1],
};

/**
 * @param {Record<string, string | undefined>} env
 * @returns {object | null} the settings, times in ms and sizes in bytes; null when the cache is not shared,
 *   which is always so in `next build`
 * @throws {Error} when a value is unusable
 */
function readConfig(env) {
  if (!env.ROADBED_CACHE_URL || env.NEXT_PHASE === BUILD) return null;
  const numbers = Object.entries(NUMBERS).map(([name, rule]) => [name, number(env, ...rule)]);
  const { memoryMib, entryMib, ...rest } = Object.fromEntries(numbers);
  return {
    url: url(env.ROADBED_CACHE_URL),
    ...group(env),
    app: word(env, "ROADBED_APP"),
    release: word(env, "ROADBED_RELEASE"),
    memoryBytes: memoryMib * MIB,
    entryBytes: entryMib * MIB,
    ...rest,
  };
}

function url(text) {
  let parsed;
  try {
    parsed = new URL(text);
  } catch {
    parsed = undefined;
  }
  if (parsed && ["redis:", "rediss:"].includes(parsed.protocol) && parsed.hostname) return text;
  // The text may hold a password, so it is not repeated.
  throw new Error("ROADBED_CACHE_URL: is not the address of a Redis server. Use redis://user:password@host:port.");
}

/** Sentinels, and what they call the master; none when the server of the URL is the only one. */
function group(env) {
  const names = (env.ROADBED_CACHE_SENTINELS ?? "").split(",").map((name) => name.trim());
  const sentinels = names.filter(Boolean).map((name) => {
    const [, host, port] = /^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})$/.exec(name) ?? [];
    if (!host) throw new Error(`ROADBED_CACHE_SENTINELS: ${JSON.stringify(name)} is not host:port.`);
    return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
  });
  const master = env.ROADBED_CACHE_MASTER ?? "";
  if (sentinels.length === 0) return { sentinels, master: "" };
  if (/^[A-Za-z][A-Za-z0-9._-]{0,63}$/.test(master)) return { sentinels, master };
  throw new Error("ROADBED_CACHE_MASTER: is not the name of a master, which ROADBED_CACHE_SENTINELS needs.");
}

/** A word that becomes a part of every key: no colon, so that no app or release can reach into another's keys. */
function word(env, name) {
  const value = env[name] ?? "";
  if (/^[A-Za-z0-9._-]{1,64}$/.test(value)) return value;
  throw new Error(
    `${name}: ${JSON.stringify(value)} cannot be part of a cache key. ` +
      "Use 1 to 64 letters, digits, dots, hyphens and underscores.",
  );
}

function number(env, name, fallback, least) {
  const value = Number(env[name] || fallback);
  if (Number.isInteger(value) && value >= least) return value;
  throw new Error(`${name}: ${env[name]} is not a whole number of at least ${least}.`);
}

module.exports = { readConfig };
