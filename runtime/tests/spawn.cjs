"use strict";
// Starts plain-server.cjs under the preload, on a free port, and stops it with the test.
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const http = require("node:http");
const net = require("node:net");
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");

async function start(t, env = {}) {
  const port = await freePort();
  const args = ["--require", path.join(__dirname, "../server.cjs"), path.join(__dirname, "plain-server.cjs")];
  const fixed = { PORT: String(port), HOSTNAME: "127.0.0.1", ROADBED_RELEASE: "r7", ROADBED_INSTANCE: "b-2" };
  const child = spawn(process.execPath, args, { env: { PATH: process.env.PATH, ...fixed, ...env } });
  t.after(() => child.kill("SIGKILL"));
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => output.push(String(text)));
  const exited = once(child, "exit").then(([code]) => code);
  const host = env.HOSTNAME ?? fixed.HOSTNAME;
  const get = (url, options) => request({ host, port, path: url, ...options });
  const listening = () => poll(() => get("/.roadbed/health").then(() => true));
  const ready = () => poll(async () => (await get("/.roadbed/health")).status === 200);
  return { port, child, exited, get, listening, ready, log: () => output.join("") };
}

function request(options) {
  return new Promise((resolve, reject) => {
    const sent = http.request({ agent: false, ...options }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const body = Buffer.concat(chunks).toString();
        resolve({ status: response.statusCode, headers: response.headers, body });
      });
    });
    sent.on("error", reject);
    sent.end();
  });
}

async function poll(check, timeout = 10_000) {
  const end = Date.now() + timeout;
  while (!(await check().catch(() => false))) {
    if (Date.now() > end) throw new Error("the server did not come up in time");
    await sleep(10);
  }
}

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

module.exports = { start };
