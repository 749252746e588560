"use strict";
/**
 * More addresses for the app's server: `ROADBED_LISTEN`, comma separated, on the same port. So the host's own
 * nginx asks on loopback all the time, and other hosts ask on the inside address once there are any.
 * An accepted connection is handed to the app's server, which treats it like its own.
 */
const { once } = require("node:events");
const net = require("node:net");

/** @returns {string[]} */
const readAddresses = (text = "") => text.split(",").map((part) => part.trim()).filter(Boolean);

/**
 * Listens on `addresses` too, as soon as the server itself does. Closing the server closes all of them, and it
 * counts as closed when the connections of all have ended: Next.js exits then. An address that cannot be had
 * ends the process, as one of the server itself does; systemd tries again.
 * @param {import("node:http").Server} server before it listens
 * @param {() => void} ready called once, when all addresses take connections
 */
function listenOnMore(server, addresses, ready) {
  const more = addresses.map(() => doorTo(server));
  if (more.length) closeTogether(server, more);
  server.once("listening", async () => {
    const { port } = server.address();
    await Promise.all(more.map((door, index) => listen(door, port, addresses[index])));
    ready();
  });
}

/** Options as those of an http.Server: the other side may end its half first, and nothing waits for more to send. */
function doorTo(server) {
  const door = net.createServer({ allowHalfOpen: true, noDelay: true });
  return door.on("connection", (socket) => {
    socket.server = server; // as of its own; apps keep things there
    server.emit("connection", socket);
  });
}

async function listen(door, port, host) {
  door.listen({ port, host });
  try {
    await once(door, "listening");
  } catch (error) {
    console.error(`roadbed: cannot listen on ${host}, port ${port}: ${error.code ?? error.message}`);
    process.exit(1);
  }
}

/** The event "close" ends the process: it is held back until the others have closed too. */
function closeTogether(server, more) {
  const { close, emit } = server;
  let closed;
  server.close = function closeAll(...args) {
    closed ??= Promise.all(more.map((door) => new Promise((ended) => door.close(ended))));
    return close.apply(this, args);
  };
  server.emit = function emitWhenAllAreClosed(event, ...args) {
    if (event !== "close") return emit.call(this, event, ...args);
    void Promise.resolve(closed).then(() => emit.call(this, event, ...args));
    return true;
  };
}

module.exports = { readAddresses, listenOnMore };
