"use strict";
/**
 * `node gate.cjs '{"release":..., "addresses":[...], "domain":..., "health":..., "seconds":..., "instances":{"a-0":5000}}'`
 * Waits until every instance answers the health page as a visitor would ask for it, and is of the expected
 * release; without "health" only until it answers at once, which is when all requests that came before have
 * been taken from the queues of its sockets: closing those would reset them. Prints one line of JSON an instance;
 * exit code 0 when all are good, 1 when not. Run on the host, before an instance gets traffic: neither curl nor
 * nginx need be there.
 */
const { execFileSync } = require("node:child_process");
const http = require("node:http");
const { setTimeout: sleep } = require("node:timers/promises");

const RETRY_MS = 250;
const ANSWER_MS = 15_000;
const AT_ONCE_MS = 200;
/** How long a good instance may take to find out about what it depends on. */
const CHECKS_MS = 4_000;
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
  const own = await Promise.all(wanted.addresses.map((address) => health(address, port)));
  const degraded = complaints(own[0]);
  const bad = own.findIndex(({ status }) => status !== 200);
  if (bad >= 0) {
    const reason = own[bad].error ? `does not listen on ${wanted.addresses[bad]}` : "is not ready";
    return { ...own[bad], reason, degraded };
  }
  const page = await ask({ address: wanted.addresses[0], port, path: wanted.health, headers: visitor(wanted.domain) });
  if (page.error || page.status >= 400) return { ...page, reason: `${wanted.health} is not healthy`, degraded };
  if (page.release !== wanted.release) return { ...page, reason: `is of release ${page.release}` };
  return { ...page, good: true, degraded: await settled(wanted.addresses[0], port) };
}

const health = (address, port) => ask({ address, port, path: "/.roadbed/health", headers: {} });

/** What an instance says of the things it depends on: `["database: connection refused"]`; unknown ones are left out. */
function complaints({ body }) {
  const found = Object.entries(checksOf(body)).filter(([, check]) => check.status === "degraded");
  return found.map(([name, { reason }]) => `${name}: ${reason}`);
}

function checksOf(body) {
  try {
    return JSON.parse(body).checks ?? {};
  } catch {
    return {};
  }
}

/** The complaints, once the instance has looked at everything. */
async function settled(address, port) {
  const end = Date.now() + CHECKS_MS;
  for (;;) {
    const own = await health(address, port);
    const unknown = Object.values(checksOf(own.body)).some(({ status }) => status === "unknown");
    if (!unknown || Date.now() > end) return complaints(own);
    await sleep(RETRY_MS);
  }
}

/** A connection is accepted after those that came before it. Nobody there: nothing to wait for. */
async function answersAtOnce(wanted, port) {
  const looks = wanted.addresses.map(async (address) => {
    const began = performance.now();
    const own = await health(address, port);
    const refused = own.error?.includes("ECONNREFUSED") ?? false;
    return { ...own, good: refused || performance.now() - began < AT_ONCE_MS, reason: "is slow to answer" };
  });
  const seen = await Promise.all(looks);
  return seen.find(({ good }) => !good) ?? seen[0];
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
