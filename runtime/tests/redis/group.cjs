"use strict";
// Three Redis servers and three Sentinels, on 127.0.0.1 to .3 with the same ports, as on three hosts.
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { cliOf, freePort, poll, users } = require("./server.cjs");

const HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
const SENTINEL_USERS = [
  "user default off",
  "user app on >secret -@all +auth +ping +sentinel|get-master-addr-by-name",
  "user admin on >admin-secret ~* &* +@all",
];

/** `group.env`: what a replica of the app needs; `group.master()`: the address of the master as Sentinel has it. */
async function startGroup(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "roadbed-group-"));
  const [port, sentinelPort] = [await freePort(), await freePort()];
  fs.writeFileSync(path.join(folder, "users.acl"), users());
  fs.writeFileSync(path.join(folder, "sentinel.acl"), `${SENTINEL_USERS.join("\n")}\n`);
  const children = new Map();
  const run = (name, words) => {
    const cwd = path.join(folder, name);
    fs.mkdirSync(cwd, { recursive: true });
    children.set(name, spawn("redis-server", words.map(String), { cwd, stdio: "ignore" }));
  };
  const startServer = (host, follows) => {
    const own = ["--port", port, "--bind", host, "--save", "", "--aclfile", "../users.acl", "--repl-diskless-sync-delay", 0];
    const login = ["--masteruser", "admin", "--masterauth", "admin-secret", "--bind-source-addr", host];
    run(host, [...own, ...login, ...(follows ? ["--replicaof", follows, port] : [])]);
  };
  const startSentinel = (host) => {
    const name = `sentinel-${host}`;
    fs.mkdirSync(path.join(folder, name));
    const watch = [
      ...[`port ${sentinelPort}`, `bind ${host}`, "aclfile ../sentinel.acl", `sentinel announce-ip ${host}`],
      ...["sentinel sentinel-user admin", "sentinel sentinel-pass admin-secret"],
      ...[`sentinel monitor cache ${HOSTS[0]} ${port} 2`, "sentinel down-after-milliseconds cache 1000"],
      ...["sentinel failover-timeout cache 3000", "sentinel auth-user cache admin", "sentinel auth-pass cache admin-secret"],
    ];
    fs.writeFileSync(path.join(folder, name, "sentinel.conf"), `${watch.join("\n")}\n`);
    run(name, ["sentinel.conf", "--sentinel"]);
  };
  t.after(() => {
    for (const child of children.values()) child.kill("SIGKILL");
    fs.rmSync(folder, { recursive: true });
  });
  const ask = (host, ...words) => cliOf(host, sentinelPort)(...words);
  const group = {
    env: {
      ROADBED_CACHE_SENTINELS: HOSTS.map((host) => `${host}:${sentinelPort}`).join(),
      ROADBED_CACHE_MASTER: "cache",
    },
    url: `redis://app:secret@127.0.0.9:${port}`, // nobody is there: the address comes from Sentinel
    cli: (host, ...words) => cliOf(host, port)(...words),
    ask,
    master: (host = HOSTS[2]) => ask(host, "sentinel", "get-master-addr-by-name", "cache").split("\n")[0],
    start: startServer,
    signal: (name, what) => children.get(name).kill(what),
    async kill(name) {
      const gone = once(children.get(name), "exit");
      children.get(name).kill("SIGKILL");
      await gone;
    },
  };
  for (const host of HOSTS) startServer(host, host === HOSTS[0] ? undefined : HOSTS[0]);
  for (const host of HOSTS) await poll(() => group.cli(host, "ping") === "PONG");
  for (const host of HOSTS) startSentinel(host);
  const knows = (host) => /num-slaves\n2\nnum-other-sentinels\n2\n/.test(ask(host, "sentinel", "master", "cache"));
  await poll(() => HOSTS.every(knows), 30);
  return group;
}

module.exports = { startGroup, HOSTS };
