"use strict";
/** Puts the shared cache together, once in a process: Next.js may load the handlers from several places. */
const { Clock } = require("./clock.cjs");
const { Connection } = require("./connection.cjs");
const { makeHandler } = require("./handler.cjs");
const { Memory } = require("./memory.cjs");
const { getBytes, isReply, redisClient } = require("./redis.cjs");
const { SingleFlight } = require("./single-flight.cjs");
const { Store } = require("./store.cjs");
const { Tags } = require("./tags.cjs");
const { makeUseCache } = require("./use-cache.cjs");

const KEEP_MS = 60_000;

/**
 * @param {object} config of `config.cjs`
 * @param {import("./purge.cjs").Purge} [purge] told of what was revalidated
 * @returns {{Handler: Function, useCache: object}}
 */
function startShared(config, metrics, purge) {
  const { url, sentinels, master, app, release, timeoutMs, breakerMs } = config;
  const clock = new Clock();
  const connect = () => redisClient(url, sentinels, master);
  const connection = new Connection({ connect, isReply, timeoutMs, breakerMs, metrics, ready: () => void keep(true) });
  const root = `rb:${app}:`;
  const tags = new Tags({ ...config, connection, clock, metrics, root, purge });
  const memory = new Memory(config.memoryBytes);
  const store = new Store({ ...config, connection, tags, metrics, getBytes, root, memory });
  const flight = new SingleFlight({ ...config, store, metrics });
  const parts = { store, tags, clock, flight, metrics, release };

  /** On each connect, and now and then: another server may have another clock. */
  async function keep(connected) {
    await connection.run((client) => clock.measure(() => client.sendCommand(["TIME"])));
    await (connected ? tags.connected() : connection.run((client) => tags.stream.keep(client)));
  }
  setInterval(() => void keep(false), KEEP_MS).unref();
  return { Handler: makeHandler(parts), useCache: makeUseCache(parts) };
}

module.exports = { startShared };
