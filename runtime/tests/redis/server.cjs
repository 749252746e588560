"use strict";
// A real Redis for a test: on a port of its own, with a user that may do what the cache handlers need and no more.
const { execFileSync, spawn } = require("node:child_process");
const { once } = require("node:events");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");

/** All that the cache handlers say to Redis; AUTH is always allowed. */
const COMMANDS = ["get", "set", "del", "xadd", "xrange", "expire", "time", "ping"];
const ADMIN = ["--user", "admin", "--pass", "admin-secret", "--no-auth-warning"];

/** The ACL file of a server. */
function users() {
  const may = COMMANDS.map((command) => `+${command}`).join(" ");
  return `user default off\nuser app on >secret ~rb:shop:* resetchannels -@all ${may}\nuser admin on >admin-secret ~* &* +@all\n`;
}

/** `cliOf(host, port)("get", "key")` asks a server as its administrator. */
function cliOf(host, port) {
  return (...words) => {
    const command = ["-h", host, "-p", String(port), ...ADMIN, ...words.map(String)];
    return execFileSync("redis-cli", command, { encoding: "utf8" }).trim();
  };
}

async function startRedis(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "roadbed-redis-"));
  const port = await freePort();
  fs.writeFileSync(path.join(folder, "users.acl"), users());
  const server = { port, url: `redis://app:secret@127.0.0.1:${port}`, child: undefined };
  const options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--aclfile", "users.acl"];
  const cli = cliOf("127.0.0.1", port);
  Object.assign(server, {
    cli,
    async start() {
      server.child = spawn("redis-server", options.map(String), { cwd: folder, stdio: "ignore" });
      await poll(() => cli("ping") === "PONG");
    },
    signal: (name) => server.child.kill(name),
    async kill() {
      const gone = once(server.child, "exit");
      server.child.kill("SIGKILL");
      await gone;
    },
    keys: (pattern = "*") => cli("keys", pattern).split("\n").filter(Boolean),
  });
  t.after(() => {
    server.child.kill("SIGKILL");
    fs.rmSync(folder, { recursive: true });
  });
  await server.start();
  return server;
}

async function poll(check, seconds = 10) {
  for (const end = Date.now() + seconds * 1000; ; await sleep(20)) {
    try {
      if (await check()) return;
    } catch (error) {
      if (Date.now() > end) throw error;
    }
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${check}`);
  }
}

async function freePort() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  return port;
}

module.exports = { startRedis, poll, freePort, users, cliOf };
