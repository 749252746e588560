"use strict";
/**
 * SIGTERM: finish what runs, take nothing new, exit soon. Next.js closes the server itself, but would then
 * wait for keep-alive connections that become idle later; behind a proxy that is until their timeout.
 */
const IDLE_CHECK_MS = 200;

/** Arms the handler; to be called once the server listens. What had to be cut is logged. */
function drainOnSigterm(server, instance) {
  process.prependOnceListener("SIGTERM", () => {
    instance.draining();
    console.log(`roadbed: draining, ${instance.responses.size} requests in flight`);
    const started = performance.now();
    exitAfterLastCalls();
    setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS).unref();
    setTimeout(() => cut(server, instance), instance.drainSeconds * 1000).unref();
    server.once("close", () => {
      console.log(`roadbed: drained in ${Math.round(performance.now() - started)} ms`);
    });
    // With NEXT_MANUAL_SIG_HANDLE and no handler of the app's own, nobody else would end the process.
    if (process.listenerCount("SIGTERM") === 0) server.close(() => process.exit(143));
  });
}

/** What a CDN has still to be told (cache/purge.cjs) is told before Next.js ends the process. */
function exitAfterLastCalls() {
  const { exit } = process;
  process.exit = (code) => {
    process.exit = exit;
    const purge = globalThis[Symbol.for("roadbed.purge")];
    if (!purge?.pending) return exit(code);
    purge.flush().finally(() => exit(code));
  };
}

/** Shortly before systemd would kill the process: the app's `after()` work still gets its turn. */
function cut(server, instance) {
  const running = instance.responses.size + instance.upgraded.size;
  if (running) console.log(`roadbed: cut ${running} connections after ${instance.drainSeconds} s`);
  server.closeAllConnections();
  for (const socket of instance.upgraded) socket.destroy();
}

module.exports = { drainOnSigterm };
