"use strict";
/**
 * `node gate.cjs '{"release":..., "address":..., "domain":..., "health":..., "seconds":..., "instances":{"a-0":5000}}'`
 * Waits until every instance answers the health page as a visitor would ask for it, and is of the expected
 * release; without "health" only until it answers at once, which is when all requests that came before have
 * been taken from the queue of its socket: closing that would reset them. Prints one line of JSON an instance; exit code 0 when all are good, 1 when not. Run on the host,
 * before an instance gets traffic: neither curl nor nginx need be there.
 */
const { execFileSync } = require("node:child_process");
const http = require("node:http");
const { setTimeout: sleep } = require("node:timers/promises");

const RETRY_MS = 250;
const ANSWER_MS = 15_000;
const AT_ONCE_MS = 200;
const MOST_RESTARTS = 3;
const BODY_LINES = 5;
const BODY_CHARACTERS = 600;

function ask({ address, port, path, headers }) {
  return new Promise((resolve) => {
    const request = http.get({ host: address, port, path, headers, agent: false, timeout: ANSWER_MS }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (piece) => (body.length < BODY_CHARACTERS ? (body += piece) : undefined));
      response.on("error", () => resolve({ error: "the answer broke off", body }));
      response.on("end", () =>
        resolve({ status: response.statusCode, release: response.headers["x-roadbed-release"] ?? null, body }),
      );
    });
    request.on("timeout", () => request.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)));
    request.on("error", (error) => resolve({ error: error.message }));
  });
}

/** What nginx would send with a visitor's request. */
function visitor(domain) {
  return {
    host: domain,
    "x-forwarded-host": domain,
    "x-forwarded-proto": "https",
    "x-forwarded-for": "127.0.0.1",
    "user-agent": "roadbed-gate",
  };
}

async function look(wanted, port) {
  const own = await ask({ address: wanted.address, port, path: "/.roadbed/health", headers: {} });
  if (own.status !== 200) return { ...own, reason: own.error ? "does not listen" : "is not ready" };
  const page = await ask({ address: wanted.address, port, path: wanted.health, headers: visitor(wanted.domain) });
  if (page.error || page.status >= 400) return { ...page, reason: `${wanted.health} is not healthy` };
  if (page.release !== wanted.release) return { ...page, reason: `is of release ${page.release}` };
  return { ...page, good: true };
}

/** A connection is accepted after those that came before it. Nobody there: nothing to wait for. */
async function answersAtOnce(wanted, port) {
  const began = performance.now();
  const own = await ask({ address: wanted.address, port, path: "/.roadbed/health", headers: {} });
  const refused = own.error?.includes("ECONNREFUSED") ?? false;
  return { ...own, good: refused || performance.now() - began < AT_ONCE_MS, reason: "is slow to answer" };
}

function restarts(unit) {
  try {
    return Number(execFileSync("systemctl", ["show", "--property=NRestarts", "--value", unit], { encoding: "utf8" }));
  } catch {
    return 0;
  }
}

async function gate(wanted, instance, port) {
  const end = Date.now() + wanted.seconds * 1000;
  const unit = `${wanted.app}@${instance}.service`;
  for (;;) {
    const seen = wanted.health ? await look(wanted, port) : await answersAtOnce(wanted, port);
    const crashed = seen.error && !seen.good ? restarts(unit) >= MOST_RESTARTS : false;
    if (seen.good || crashed || Date.now() > end) {
      if (crashed) seen.reason = `has crashed ${MOST_RESTARTS} times`;
      const body = (seen.body ?? "").trim().split("\n").slice(0, BODY_LINES).join("\n").slice(0, BODY_CHARACTERS);
      return { instance, good: false, ...seen, body: seen.good ? "" : body };
    }
    await sleep(RETRY_MS);
  }
}

async function main() {
  const wanted = JSON.parse(process.argv[2]);
  const looks = Object.entries(wanted.instances).map(([instance, port]) => gate(wanted, instance, port));
  const results = await Promise.all(looks);
  for (const result of results) console.log(JSON.stringify(result));
  process.exitCode = results.every((result) => result.good) ? 0 : 1;
}

main();
