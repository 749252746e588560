"use strict";
/** Tells systemd about this service (sd_notify(3)); does nothing unless it asked, through NOTIFY_SOCKET. */
const { spawn } = require("node:child_process");

/** Reads messages and hands each to the program for shell scripts: Node.js has no datagram sockets of the Unix kind. */
const TELLER = 'while read -r message; do timeout 5 systemd-notify "$message"; done';
let teller;

/**
 * Starts the shell that passes messages on. To be called early: starting a process blocks a large one, by 10 ms
 * and more on a busy machine, and from then on a message is a line in a pipe. It is a child of the service, hence
 * `NotifyAccess=all` in the unit, and ends with it.
 */
function startTeller({ NOTIFY_SOCKET } = process.env) {
  if (!NOTIFY_SOCKET || teller) return;
  const env = { NOTIFY_SOCKET, PATH: "/usr/bin:/bin" };
  teller = spawn("/bin/sh", ["-c", TELLER], { env, stdio: ["pipe", "ignore", "inherit"] });
  teller.on("error", (error) => console.warn(`roadbed: cannot tell systemd: ${error.message}`));
  teller.on("exit", () => (teller = undefined));
  teller.stdin.on("error", () => {}); // it has ended; the next message starts another
  teller.unref();
  teller.stdin.unref();
}

/** @param {string} message such as "READY=1" */
function notify(message) {
  startTeller();
  teller?.stdin.write(`${message}\n`);
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

module.exports = { feedWatchdog, notify, startTeller };
