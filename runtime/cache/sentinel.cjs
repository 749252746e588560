"use strict";
/**
 * Where the master is, as the Sentinels have it (https://redis.io/docs/latest/develop/reference/sentinel-clients/).
 * All are asked at once, and most votes count: one that was cut off may still name a master that was replaced.
 */
const net = require("node:net");
const { withTimeout } = require("./connection.cjs");

/** Longest wait for a Sentinel, ms. */
const ANSWER_MS = 300;

/**
 * @param {object} group
 * @param {{host: string, port: number}[]} group.sentinels
 * @param {string} group.master the name that they give to it
 * @param {string} group.username
 * @param {string} group.password
 * @returns {Promise<{host: string, port: number}>} rejects when no Sentinel names one
 */
function findMaster(group) {
  const { sentinels } = group;
  const votes = new Map();
  let open = sentinels.length;
  return new Promise((resolve, reject) => {
    const vote = (address) => {
      votes.set(address, (votes.get(address) ?? 0) + 1);
      if (votes.get(address) * 2 > sentinels.length) resolve(parse(address));
    };
    let reason = "";
    for (const sentinel of sentinels) {
      ask(sentinel, group)
        .then(vote, (error) => (reason = `${sentinel.host}: ${error.message}`))
        .finally(() => {
          open -= 1;
          if (open) return;
          const [most] = [...votes].sort(([, a], [, b]) => b - a);
          if (most) resolve(parse(most[0]));
          else reject(new Error(`no Sentinel names the master of ${group.master}: ${reason}`));
        });
    }
  });
}

async function ask({ host, port }, { master, username, password }) {
  const socket = net.connect({ host, port });
  const answer = new Promise((resolve, reject) => {
    let text = "";
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("closed the connection")));
    socket.setEncoding("utf8").on("data", (piece) => {
      text += piece;
      const found = /^\+OK\r\n\*2\r\n\$\d+\r\n(\S+)\r\n\$\d+\r\n(\d+)\r\n/.exec(text);
      const refused = /^(?:\+OK\r\n)?(?:-(.*)|\*-1)\r\n/.exec(text);
      if (found) resolve(`${found[1]} ${found[2]}`);
      else if (refused) reject(new Error(refused[1] ?? "knows no such master"));
    });
  });
  socket.write(command("AUTH", username, password) + command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master));
  try {
    return await withTimeout(answer, ANSWER_MS);
  } finally {
    socket.destroy();
  }
}

function command(...words) {
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`;
}

function parse(address) {
  const [host, port] = address.split(" ");
  return { host, port: Number(port) };
}

/**
 * A `lookup` for net.connect(): each new connection goes to where the master is by then. A lookup cannot change
 * the port, so all servers of a master have the same one.
 */
function masterLookup(group, port) {
  return (name, { all }, done) => {
    findMaster(group).then((found) => {
      const family = net.isIP(found.host);
      if (!family || found.port !== port) {
        return done(new Error(`Sentinel names ${found.host}:${found.port}, which is not an IP address with port ${port}`));
      }
      return all ? done(null, [{ address: found.host, family }]) : done(null, found.host, family);
    }, done);
  };
}

module.exports = { findMaster, masterLookup };
