"use strict";
/** A client of @redis/client (https://github.com/redis/node-redis) that says as little as possible to the server. */
const { createClient, ErrorReply, RESP_TYPES } = require("@redis/client");
const { reconnectDelay } = require("./connection.cjs");

const CONNECT_MS = 2_000;
const PING_MS = 15_000;
/** Commands that wait for an answer, at most; more are refused instead of filling the memory. */
const QUEUE = 10_000;
const AS_BYTES = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };

/** @param {string} url redis://user:password@host:port/database */
function redisClient(url) {
  return createClient({
    url,
    RESP: 2,
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: "disabled",
    commandsQueueMaxLength: QUEUE,
    pingInterval: PING_MS,
    socket: { connectTimeout: CONNECT_MS, keepAliveInitialDelay: PING_MS, reconnectStrategy: reconnectDelay },
  });
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
