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

module.exports = { notify };
