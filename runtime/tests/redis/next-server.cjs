"use strict";
// The storefront as a release has it, one instance: `ROADBED_STANDALONE` names the folder with its server.js.
const { spawn } = require("node:child_process");
const http = require("node:http");
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const { freePort, poll } = require("./server.cjs");

const PRELOAD = path.join(__dirname, "../../server.cjs");

async function startNext(t, env = {}, folder = process.env.ROADBED_STANDALONE) {
  if (!folder) throw new Error("ROADBED_STANDALONE: is not set. Name the folder with server.js of a built storefront.");
  const port = await freePort();
  const own = { PORT: String(port), HOSTNAME: "127.0.0.1", ROADBED_RELEASE: "r1", ROADBED_APP: "shop" };
  const child = spawn(process.execPath, ["--require", PRELOAD, "server.js"], {
    cwd: folder,
    env: { PATH: process.env.PATH, NODE_ENV: "production", ...own, ...env },
  });
  t.after(() => child.kill("SIGKILL"));
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (log += text));
  const agent = new http.Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const get = async (url, headers, { follow = true } = {}) => {
    const answer = await request({ port, path: url, agent, headers });
    // Navigation has to name the headers it sends in the address; Next.js tells how.
    return answer.status === 307 && follow ? get(answer.headers.location, headers) : answer;
  };
  const post = (url, body) => request({ port, path: url, method: "POST", agent }, JSON.stringify(body));
  const json = { "content-type": "application/json" };
  const send = (method, url, body) => request({ port, path: url, method, agent, headers: json }, JSON.stringify(body));
  await poll(async () => (await get("/.roadbed/health")).status === 200, 30);
  /** How often something was rendered, by the lines that the storefront prints. */
  const renders = (what) => log.split("\n").filter((line) => line.startsWith(`render ${what}`)).length;
  return { port, child, get, post, send, renders, log: () => log };
}

function request(options, body) {
  const begun = performance.now();
  return new Promise((resolve, reject) => {
    const sent = http.request({ host: "127.0.0.1", ...options }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const bytes = Buffer.concat(chunks);
        const { statusCode: status, headers } = response;
        const mark = (name) => String(bytes).match(new RegExp(`data-${name}="([^"]*)"`))?.[1];
        resolve({ status, headers, bytes, mark, cache: headers["x-nextjs-cache"], ms: performance.now() - begun });
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Asks all servers for all paths, one request after the other at each, until `stop()`. */
function load(servers, paths, pauseMs) {
  const answers = [];
  let running = true;
  const workers = servers.map(async (server) => {
    for (let n = 0; running; n += 1) {
      const begun = performance.now();
      const answer = await server.get(paths[n % paths.length]).catch((error) => ({ status: 0, error }));
      answers.push({ status: answer.status, ms: performance.now() - begun, at: Date.now() });
      await sleep(pauseMs);
    }
  });
  return async () => {
    running = false;
    await Promise.all(workers);
    return answers;
  };
}

module.exports = { startNext, load };
