"use strict";
/**
 * Preload of the standalone server: `node --require /abs/runtime/server.cjs server.js`, Next.js 14.2 and later.
 * Adds to it: a health endpoint, response headers that name release and instance, readiness for systemd
 * (`Type=notify`), and a drain on SIGTERM. Requests, streams and upgrades themselves pass untouched.
 *
 *   ROADBED_RELEASE, ROADBED_INSTANCE   shown in headers and health
 *   ROADBED_DRAIN_SECONDS               what still runs this long after SIGTERM is cut, default 25
 *   PORT, HOSTNAME, KEEP_ALIVE_TIMEOUT  as Next.js reads them; the last in ms, here default 75000
 */
const { isMainThread } = require("node:worker_threads");
const { onAppServer } = require("./lib/app-server.cjs");
const { drainOnSigterm } = require("./lib/drain.cjs");
const { answerHealth } = require("./lib/health.cjs");
const { Instance } = require("./lib/instance.cjs");
const { whenReady } = require("./lib/ready.cjs");

// Longer than nginx keeps an idle upstream connection (60 s), or nginx sends into a closing one.
process.env.KEEP_ALIVE_TIMEOUT ||= "75000";

if (isMainThread) {
  const instance = new Instance(process.env);
  onAppServer(Number.parseInt(process.env.PORT, 10) || 3000, (server) => {
    instance.watch(server, answerHealth);
    server.once("listening", () => {
      drainOnSigterm(server, instance);
      whenReady(server, instance);
    });
  });
}
