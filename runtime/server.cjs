"use strict";
/**
 * Preload of the standalone server: `node --require /abs/runtime/server.cjs server.js`, Next.js 14.2 and later.
 * Adds to it: a health endpoint, response headers that name release and instance, readiness for systemd
 * (`Type=notify`), and a drain on SIGTERM. Requests, streams and upgrades themselves pass untouched.
 *
 *   ROADBED_RELEASE, ROADBED_INSTANCE   shown in headers and health
 *   ROADBED_DRAIN_SECONDS               what still runs this long after SIGTERM is cut, default 25
 *   ROADBED_LISTEN                      more addresses to listen on, with commas between
 *   ROADBED_PEERS                       addresses of machines that may ask for health, besides private ones
 *   PORT, HOSTNAME, KEEP_ALIVE_TIMEOUT  as Next.js reads them; the last in ms, here default 75000
 */
const { isMainThread } = require("node:worker_threads");
const { onAppServer } = require("./lib/app-server.cjs");
const { drainOnSigterm } = require("./lib/drain.cjs");
const { addPeers, answerHealth } = require("./lib/health.cjs");
const { Instance } = require("./lib/instance.cjs");
const { listenOnMore, readAddresses } = require("./lib/listeners.cjs");
const { startTeller } = require("./lib/notify.cjs");
const { whenReady } = require("./lib/ready.cjs");

// Longer than nginx keeps an idle upstream connection (60 s), or nginx sends into a closing one.
process.env.KEEP_ALIVE_TIMEOUT ||= "75000";

if (isMainThread) {
  startTeller();
  const instance = new Instance(process.env);
  const addresses = readAddresses(process.env.ROADBED_LISTEN);
  addPeers(process.env.ROADBED_PEERS);
  onAppServer(Number.parseInt(process.env.PORT, 10) || 3000, (server) => {
    instance.watch(server, answerHealth);
    server.once("listening", () => drainOnSigterm(server, instance));
    listenOnMore(server, addresses, () => {
      instance.checks.look(); // so that something is known when the first one asks
      whenReady(server, instance);
    });
  });
}
