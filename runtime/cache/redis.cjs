"use strict";
/** A client of @redis/client (https://github.com/redis/node-redis) that says as little as possible to the server. */
const { createClient, ErrorReply, RESP_TYPES } = require("@redis/client");
const { reconnectDelay } = require("./connection.cjs");
const { masterLookup } = require("./sentinel.cjs");

const CONNECT_MS = 2_000;
const PING_MS = 15_000;
/** Commands that wait for an answer, at most; more are refused instead of filling the memory. */
const QUEUE = 10_000;
const AS_BYTES = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };

/**
 * @param {string} address redis://user:password@host:port/database
 * @param {{host: string, port: number}[]} [sentinels] who know where the host of `master` is; that of `address` is
 *   not used then, its user, password and port are
 * @param {string} [master]
 */
function redisClient(address, sentinels = [], master = "") {
  const url = new URL(address);
  const lookup = sentinels.length > 0 && masterLookup(groupOf(url, sentinels, master), Number(url.port || 6379));
  if (lookup) url.hostname = master; // an IP address would not be looked up
  return createClient({
    url: url.href,
    RESP: 2,
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: "disabled",
    commandsQueueMaxLength: QUEUE,
    pingInterval: PING_MS,
    socket: {
      connectTimeout: CONNECT_MS,
      keepAliveInitialDelay: PING_MS,
      reconnectStrategy: reconnectDelay,
      ...(lookup && { lookup }),
    },
  });
}

function groupOf({ username, password }, sentinels, master) {
  return { sentinels, master, username: decodeURIComponent(username), password: decodeURIComponent(password) };
}

/** Whether Redis has sent the error, as opposed to not having been reached. */
function isReply(error) {
  return error instanceof ErrorReply;
}

/** The value of a key as a Buffer, or null. */
function getBytes(client, key) {
  return client.sendCommand(["GET", key], AS_BYTES);
}

module.exports = { redisClient, isReply, getBytes };
