"use strict";
/** Finds the HTTP server of the app: the first that is asked to listen on its port. */
const http = require("node:http");

/**
 * @param {number} port
 * @param {(server: import("node:http").Server) => void} found called once, before the server listens
 */
function onAppServer(port, found) {
  const inherited = http.Server.prototype.listen;
  http.Server.prototype.listen = function listen(...args) {
    if (wantedPort(args[0]) === port) {
      delete http.Server.prototype.listen; // the one that net.Server has is visible again
      found(this);
    }
    return inherited.apply(this, args);
  };
}

function wantedPort(target) {
  return Number(typeof target === "object" && target !== null ? target.port : target);
}

module.exports = { onAppServer };
