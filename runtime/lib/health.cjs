"use strict";
/**
 * `GET /.roadbed/health`: 200 `{"status":"ready", ...}`, 503 while starting or draining: may requests be sent here?
 * `GET /.roadbed/live`: 200 as long as the process can answer at all.
 * Only for the machines of the stack: a request from elsewhere, or one that came through a proxy,
 * goes on to the app, which does not know the paths.
 */
const { BlockList, isIP, isIPv6 } = require("node:net");

const PATH = "/.roadbed/health";
const LIVE = "/.roadbed/live";
const FORWARDED = ["x-forwarded-for", "forwarded", "x-real-ip"];

/** Loopback, link-local and private: RFC 1122, 3927, 1918, 6598 (carrier and overlay networks), 4291, 4193. */
const near = new BlockList();
for (const [net, bits] of [
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["10.0.0.0", 8],
  ["172.16.0.0", 12],
  ["192.168.0.0", 16],
  ["100.64.0.0", 10],
]) {
  near.addSubnet(net, bits, "ipv4");
}
near.addAddress("::1", "ipv6");
near.addSubnet("fe80::", 10, "ipv6");
near.addSubnet("fc00::", 7, "ipv6");

/** Machines of the stack with addresses of other networks; names among them are left out. */
function addPeers(addresses = "") {
  for (const address of addresses.split(",").map((part) => part.trim())) {
    if (isIP(address)) near.addAddress(address, isIPv6(address) ? "ipv6" : "ipv4");
  }
}

/** @returns {boolean} whether the request was for one of these and has been answered */
function answerHealth(instance, request, response) {
  const { url, method } = request;
  if (![PATH, LIVE].includes(url) || !["GET", "HEAD"].includes(method) || !isNear(request)) return false;
  const body = JSON.stringify(url === LIVE ? { live: true } : describe(instance));
  response.writeHead(url === LIVE || instance.status === "ready" ? 200 : 503, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
  });
  response.end(method === "HEAD" ? undefined : body);
  return true;
}

function describe(instance) {
  return {
    status: instance.status,
    ...(instance.reason && { reason: instance.reason }),
    live: true,
    checks: instance.checks.look(),
    release: instance.release,
    instance: instance.name,
    pid: process.pid,
    uptime: Math.round(process.uptime() * 1000) / 1000,
    inFlight: instance.responses.size - 1,
    node: process.version,
  };
}

function isNear({ headers, socket }) {
  if (FORWARDED.some((name) => name in headers)) return false;
  const { remoteAddress, localAddress } = socket;
  if (!remoteAddress) return false;
  // The same machine, also when it is bound to a public address.
  if (remoteAddress === localAddress) return true;
  return near.check(remoteAddress, isIPv6(remoteAddress) ? "ipv6" : "ipv4");
}

module.exports = { addPeers, answerHealth, PATH };
