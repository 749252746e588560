"use strict";
/**
 * Can the app use its database? Logs in to the server, or the pooler before it, and asks one query. A driver would
 * have to be in every app, so this is the little of the protocol that it takes. Reasons hold no password.
 */
const { randomBytes } = require("node:crypto");
const net = require("node:net");
const tls = require("node:tls");
const { int32, md5Answer, message, reader, scramAnswer, text } = require("./postgres-wire.cjs");

const PROTOCOL = 196_608; // 3.0
const SSL_REQUEST = 80_877_103;
const WORDS = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "the connection was reset",
  EHOSTUNREACH: "the host cannot be reached",
  ENETUNREACH: "the host cannot be reached",
  ENOTFOUND: "its name does not resolve",
  EAI_AGAIN: "its name does not resolve",
};

/** The parts of a URL such as postgresql://user:password@host:5432/name?sslmode=require; undefined for another. */
function parseDatabaseUrl(url = "") {
  try {
    const { protocol, hostname, port, username, password, pathname, searchParams } = new URL(url);
    if (!/^postgres(ql)?:$/.test(protocol) || !hostname || !username || searchParams.has("host")) return undefined;
    const user = decodeURIComponent(username);
    return {
      host: hostname.replace(/^\[|\]$/g, ""),
      port: Number(port || 5432),
      user,
      password: decodeURIComponent(password),
      name: decodeURIComponent(pathname.slice(1)) || user,
      mode: searchParams.get("sslmode") ?? "prefer",
    };
  } catch {
    return undefined;
  }
}

/**
 * @param {ReturnType<typeof parseDatabaseUrl>} to
 * @param {number} timeoutMs of all of it
 * @returns {Promise<string | null>} null when it works, else why it does not
 */
async function askDatabase(to, timeoutMs) {
  const sockets = [];
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
  });
  try {
    await Promise.race([ask(to, sockets), late]);
    return null;
  } catch (error) {
    const reason = WORDS[error.code] ?? error.message;
    return `${to.host}:${to.port}: ${to.password ? reason.replaceAll(to.password, "***") : reason}`;
  } finally {
    clearTimeout(timer);
    for (const socket of sockets) socket.destroy();
  }
}

async function ask(to, sockets) {
  const plain = net.connect(to.port, to.host);
  plain.on("error", () => {}); // the reader tells; what comes after its end concerns nobody
  sockets.push(plain);
  const socket = to.mode === "disable" ? plain : await secured(plain, to);
  sockets.push(socket);
  const next = reader(socket);
  socket.write(message("", int32(PROTOCOL), text("user"), text(to.user), text("database"), text(to.name), text("")));
  await logIn(to, next, (...parts) => socket.write(message("p", ...parts)));
  socket.write(message("Q", text("SELECT 1"))); // a pooler lets clients in while its server is away
  while ((await next()).type !== "Z");
  socket.end(message("X"));
}

/** Until the server is ready for a query. */
async function logIn({ user, password }, next, send) {
  const nonce = randomBytes(18).toString("base64");
  for (;;) {
    const { type, body } = await next();
    if (type === "Z") return;
    if (type !== "R") continue; // settings and notices
    const [kind, rest] = [body.readInt32BE(0), body.subarray(4)];
    const hello = Buffer.from(`n,,n=,r=${nonce}`);
    if (kind === 3) send(text(password));
    else if (kind === 5) send(text(md5Answer(user, password, rest)));
    else if (kind === 10) send(text("SCRAM-SHA-256"), int32(hello.length), hello);
    else if (kind === 11) send(await scramAnswer(nonce, rest.toString(), password));
    else if (kind !== 0 && kind !== 12) throw new Error(`it asks for authentication of kind ${kind}`);
  }
}

/** TLS where the server offers it, as libpq's sslmode has it. */
async function secured(plain, { host, mode }) {
  plain.write(message("", int32(SSL_REQUEST)));
  const answer = await new Promise((resolve, reject) => {
    plain.once("data", resolve).once("error", reject).once("close", () => reject(new Error("it hung up")));
  });
  if (String(answer) === "S") {
    const name = net.isIP(host) ? {} : { servername: host };
    return tls.connect({ socket: plain, ...name, rejectUnauthorized: mode.startsWith("verify") });
  }
  if (["prefer", "allow"].includes(mode)) return plain;
  throw new Error(`it offers no TLS, which sslmode=${mode} asks for`);
}

module.exports = { askDatabase, parseDatabaseUrl };
