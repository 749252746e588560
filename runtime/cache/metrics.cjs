"use strict";
/** What the cache did, since the process started: `globalThis[Symbol.for("roadbed.cache")]`, read by monitoring. */

const NAME = Symbol.for("roadbed.cache");

/**
 * hit, miss, stale, expired: what was found. `expired` was made before one of its tags was revalidated.
 * seeded: answered from the files of the build. fallback: answered, or tried to, without Redis.
 * lock_lost: another instance was regenerating. waited: got what that one made.
 * tags_queued, tags_replayed, tags_dropped: revalidations that did not reach Redis at once. Dropped ones were
 * replaced by one that revalidates everything.
 * connected: whether Redis answers; reason: why it does not.
 * purged, purge_failed: calls that told a CDN, or gave up.
 * latency_ms_sum, latency_ms_count: answers of Redis.
 */
const COUNTERS = [
  ...["hit", "miss", "stale", "expired", "seeded", "set", "too_large", "error", "fallback"],
  ...["purged", "purge_failed"],
  ...["lock_lost", "waited", "tags_queued", "tags_replayed", "tags_dropped", "latency_ms_sum", "latency_ms_count"],
];

/** @param {"shared" | "local"} mode @returns {Record<string, number | string | boolean>} */
function startMetrics(mode) {
  const zeros = Object.fromEntries(COUNTERS.map((name) => [name, 0]));
  return (globalThis[NAME] = { mode, connected: false, reason: "", ...zeros });
}

const last = new Map();

/** Says the same kind of thing at most every 10 s: an outage must not fill the journal. */
function complain(kind, text) {
  const now = Date.now();
  if (now - (last.get(kind) ?? 0) < 10_000) return;
  last.set(kind, now);
  console.error(`roadbed: shared cache: ${text}`);
}

module.exports = { startMetrics, complain };
