"use strict";
/**
 * Knows when the app answers. "listening" is too early: Next.js then still loads the app and runs its
 * instrumentation, and holds the requests that arrive. An instrumentation that throws leaves a server
 * which answers every request with 500.
 */
const http = require("node:http");

/**
 * The image optimiser without a picture: answered 400 after the instrumentation and without rendering.
 * (A missing static file is answered before it, and a page would run the app's own code.)
 */
const PROBE = "/_next/image";
const RETRY_MS = 500;

/**
 * Asks until the app gives an answer below 500.
 * @param {import("node:http").Server} server listening
 * @param {{ready: () => void, notReady: (reason: string) => void}} instance told of the outcome
 */
function whenReady(server, instance) {
  const { address, port } = server.address();
  const host = { "0.0.0.0": "127.0.0.1", "::": "::1" }[address] ?? address;
  const request = http.request({ host, port, path: PROBE, method: "HEAD", agent: false });
  request.once("response", (response) => {
    response.resume();
    if (response.statusCode < 500) return instance.ready();
    return again(`the app answers ${response.statusCode}`);
  });
  request.once("error", (error) => again(error.message));
  request.end();

  function again(reason) {
    if (!server.listening) return;
    instance.notReady(reason);
    setTimeout(() => whenReady(server, instance), RETRY_MS).unref();
  }
}

module.exports = { whenReady };
