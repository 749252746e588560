"use strict";
/** Tells systemd about this service (sd_notify(3)); does nothing unless it asked, through NOTIFY_SOCKET. */
const { execFile } = require("node:child_process");

/**
 * Node.js has no datagram sockets of the Unix kind, so the program for shell scripts does it. It is a child
 * of the service, hence `NotifyAccess=all` (or `exec`) in the unit.
 * @param {string} message such as "READY=1"
 */
function notify(message) {
  const { NOTIFY_SOCKET } = process.env;
  if (!NOTIFY_SOCKET) return;
  const env = { NOTIFY_SOCKET, PATH: "/usr/bin:/bin" };
  execFile("systemd-notify", [message], { env, timeout: 5_000 }, (error) => {
    if (error) console.warn(`roadbed: systemd-notify ${message}: ${error.message.trim()}`);
  });
}

/**
 * Says every now and then that the event loop turns, when the unit has `WatchdogSec=`: without it for that long,
 * systemd starts the service anew (sd_watchdog_enabled(3)). Three times as often as it has to be said.
 */
function feedWatchdog({ WATCHDOG_USEC, WATCHDOG_PID } = process.env) {
  const ms = Number(WATCHDOG_USEC) / 1000;
  if (!ms || (WATCHDOG_PID && Number(WATCHDOG_PID) !== process.pid)) return;
  setInterval(() => notify("WATCHDOG=1"), ms / 3).unref();
}

module.exports = { feedWatchdog, notify };
