"use strict";
/**
 * Knows when the app answers. "listening" is too early: Next.js then still loads the app and runs its
 * instrumentation, and holds the requests that arrive. The first answer to a request ends that.
 */
const http = require("node:http");

/** No file has this name; Next.js answers 404 without rendering. */
const PROBE = "/_next/static/roadbed-ready";
const RETRY_MS = 100;

/** @param {() => void} ready called once, after the first answer, whatever its status */
function whenReady(server, ready) {
  const { address, port } = server.address();
  const host = { "0.0.0.0": "127.0.0.1", "::": "::1" }[address] ?? address;
  const request = http.request({ host, port, path: PROBE, method: "HEAD", agent: false });
  request.once("response", (response) => {
    response.resume();
    ready();
  });
  request.once("error", () => {
    if (server.listening) setTimeout(() => whenReady(server, ready), RETRY_MS).unref();
  });
  request.end();
}

module.exports = { whenReady };
