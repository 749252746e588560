"use strict";
/**
 * `GET /.roadbed/health`: 200 `{"status":"ready", ...}`, 503 while starting or draining.
 * Only for the machines of the stack: a request from elsewhere, or one that came through a proxy,
 * goes on to the app, which does not know the path.
 */
const { BlockList, isIPv6 } = require("node:net");

const PATH = "/.roadbed/health";
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

/** @returns {boolean} whether the request was for this endpoint and has been answered */
function answerHealth(instance, request, response) {
  if (request.url !== PATH || !["GET", "HEAD"].includes(request.method) || !isNear(request)) return false;
  const body = JSON.stringify({
    status: instance.status,
    ...(instance.reason && { reason: instance.reason }),
    release: instance.release,
    instance: instance.name,
    pid: process.pid,
    uptime: Math.round(process.uptime() * 1000) / 1000,
    inFlight: instance.responses.size - 1,
    node: process.version,
  });
  response.writeHead(instance.status === "ready" ? 200 : 503, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
  });
  response.end(request.method === "HEAD" ? undefined : body);
  return true;
}

function isNear({ headers, socket }) {
  if (FORWARDED.some((name) => name in headers)) return false;
  const { remoteAddress, localAddress } = socket;
  if (!remoteAddress) return false;
  // The same machine, also when it is bound to a public address.
  if (remoteAddress === localAddress) return true;
  return near.check(remoteAddress, isIPv6(remoteAddress) ? "ipv6" : "ipv4");
}

module.exports = { answerHealth, PATH };
