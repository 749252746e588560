"use strict";
/** Messages of the PostgreSQL protocol, version 3 (https://www.postgresql.org/docs/current/protocol-message-formats.html). */
const { createHash, createHmac, pbkdf2 } = require("node:crypto");
const { promisify } = require("node:util");

const int32 = (value) => Buffer.from(Uint32Array.of(value).buffer).swap32();
const text = (value) => Buffer.from(`${value}\0`);

/** One message; `type` is empty for the first one of a connection. */
function message(type, ...parts) {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

/**
 * @returns {() => Promise<{type: string, body: Buffer}>} gives the next message; it throws when the connection ends,
 *   and what the server says when that is an error
 */
function reader(socket) {
  let buffer = Buffer.alloc(0);
  let wake = () => {};
  let ended;
  socket.on("data", (piece) => wake((buffer = Buffer.concat([buffer, piece]))));
  socket.on("error", (error) => wake((ended ??= error)));
  socket.on("close", () => wake((ended ??= new Error("it hung up"))));
  return async function next() {
    while (buffer.length < 5 || buffer.length < 1 + buffer.readUInt32BE(1)) {
      if (ended) throw ended;
      await new Promise((resolve) => (wake = resolve));
    }
    const end = 1 + buffer.readUInt32BE(1);
    const [type, body] = [String.fromCharCode(buffer[0]), buffer.subarray(5, end)];
    buffer = buffer.subarray(end);
    if (type === "E") throw new Error(/(?:^|\0)M([^\0]*)/.exec(body.toString())?.[1] ?? "it reports an error");
    return { type, body };
  };
}

const hmac = (key, data) => createHmac("sha256", key).update(data).digest();
const md5 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("md5")).digest("hex");

/** The answer to a server that keeps MD5 hashes. */
const md5Answer = (user, password, salt) => `md5${md5(md5(password, user), salt)}`;

/** The client's last message of SCRAM-SHA-256 (RFC 5802, RFC 7677). The password itself is never sent. */
async function scramAnswer(nonce, challenge, password) {
  const { r, s, i } = Object.fromEntries(challenge.split(",").map((part) => [part[0], part.slice(2)]));
  if (!r?.startsWith(nonce)) throw new Error("its answer is not that of a PostgreSQL server");
  const key = await promisify(pbkdf2)(password.normalize("NFKC"), Buffer.from(s, "base64"), Number(i), 32, "sha256");
  const client = hmac(key, "Client Key");
  const final = `c=biws,r=${r}`;
  const signature = hmac(createHash("sha256").update(client).digest(), `n=,r=${nonce},${challenge},${final}`);
  return Buffer.from(`${final},p=${client.map((byte, index) => byte ^ signature[index]).toString("base64")}`);
}

module.exports = { int32, md5Answer, message, reader, scramAnswer, text };
