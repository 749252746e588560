"use strict";
/** The state of this server process: what it is, whether it is ready, what it is working on. */

const { Checks } = require("./checks.cjs");
const { feedWatchdog, notify } = require("./notify.cjs");
const { markSharable } = require("./sharable.cjs");

class Instance {
  /** Responses that have not ended. */
  responses = new Set();
  /** Sockets that were upgraded, to a WebSocket for instance; the HTTP server no longer counts them. */
  upgraded = new Set();
  status = "starting";
  /** Why it is not ready, when that is known. */
  reason = null;

  constructor(env) {
    this.release = env.ROADBED_RELEASE || null;
    this.name = env.ROADBED_INSTANCE || null;
    this.checks = new Checks(env);
    this.drainSeconds = Number(env.ROADBED_DRAIN_SECONDS || 25);
    if (!Number.isFinite(this.drainSeconds) || this.drainSeconds < 0) {
      throw new Error(`ROADBED_DRAIN_SECONDS: ${env.ROADBED_DRAIN_SECONDS} is not a number of seconds.`);
    }
  }

  /** Sees every request before the app does; `answer` returns true for one that it has answered itself. */
  watch(server, answer) {
    server.emit = (event, ...args) => {
      if (event === "request") {
        this.#begin(...args);
        if (answer(this, ...args)) return true;
      }
      if (event === "upgrade") this.#upgrade(args[1]);
      // Looked up each time: tracing libraries replace the prototype's method when the app has started.
      return Object.getPrototypeOf(server).emit.call(server, event, ...args);
    };
  }

  ready() {
    if (this.status !== "starting") return;
    this.status = "ready";
    this.reason = null;
    notify("READY=1");
    feedWatchdog();
  }

  notReady(reason) {
    this.reason = reason;
  }

  draining() {
    this.status = "draining";
    notify("STOPPING=1");
    for (const response of this.responses) closeAfter(response);
  }

  #begin(request, response) {
    this.responses.add(response);
    response.once("close", () => this.responses.delete(response));
    if (this.release) response.setHeader("x-roadbed-release", this.release);
    if (this.name) response.setHeader("x-roadbed-instance", this.name);
    markSharable(request, response);
    if (this.status === "draining") closeAfter(response);
  }

  #upgrade(socket) {
    this.upgraded.add(socket);
    socket.once("close", () => this.upgraded.delete(socket));
  }
}

function closeAfter(response) {
  if (!response.headersSent) response.setHeader("connection", "close");
}

module.exports = { Instance };
