"use strict";
/**
 * Visitors of the sample app at a constant rate of arrival: `node traffic.cjs CONFIG`, until standard input ends.
 * A request is sent when it is due, however late others are (an open loop), is never tried again, and its time
 * counts from the moment it was due. CONFIG is JSON: address, port, domain, out (file), run (a name), rates (client ->
 * operation -> requests a second). A line of `out` is [client, operation, due, late, took, status, error, release,
 * order]: due in ms since 1970, the next two in ms, error "" if all was well, else it begins with its kind.
 */
const { createHash, randomBytes } = require("node:crypto");
const dns = require("node:dns");
const { createWriteStream } = require("node:fs");
const http2 = require("node:http2");
const https = require("node:https");

const config = JSON.parse(process.argv[2]);
const origin = `https://${config.domain}${config.port === 443 ? "" : `:${config.port}`}`;
const TIMEOUT_MS = 60_000;
/** Below the 75 s after which nginx closes an idle connection: a client that asks at that very moment loses. */
const IDLE_MS = 50_000;
/** nginx ends an HTTP/2 connection after 10000 requests; a session is left before that. */
const STREAMS = 2_000;
const AGENTS = 12;
const SESSIONS = 6;
const TICK_MS = 5;

const family = config.address.includes(":") ? 6 : 4;
dns.lookup = (_host, options, callback) => {
  const found = { address: config.address, family };
  if (options?.all) callback(null, [found]);
  else callback(null, found.address, found.family);
};

/** A failed request; `kind` is one of refused, reset, truncated, status, wrong, timeout. */
class Failure extends Error {
  constructor(kind, message) {
    super(`${kind}: ${message}`);
  }
}

function broken(error, answered) {
  const said = error.cause?.code ?? error.code ?? error.cause?.message ?? error.message;
  if (error instanceof Failure) return error;
  if (answered) return new Failure("truncated", said);
  return new Failure(["ECONNREFUSED", "ERR_HTTP2_GOAWAY_SESSION"].includes(said) ? "refused" : "reset", said);
}

// The clients: send(method, path, headers, body) gives {status, text}, or fails with a Failure.

function overHttps(agent) {
  return (method, path, headers, body) =>
    new Promise((resolve, reject) => {
      let answered = false;
      const fail = (error) => reject(broken(error, answered));
      const request = https.request(`${origin}${path}`, { method, headers, agent: agent() }, (response) => {
        answered = true;
        const pieces = [];
        response.on("data", (piece) => pieces.push(piece));
        response.on("error", fail);
        response.on("end", () => resolve({ status: response.statusCode, text: Buffer.concat(pieces).toString() }));
        response.on("close", () => response.complete || fail(new Failure("truncated", "the connection was closed")));
      });
      request.setTimeout(TIMEOUT_MS, () => request.destroy(new Failure("timeout", `${TIMEOUT_MS} ms of silence`)));
      request.on("error", fail);
      request.end(body);
    });
}

async function overFetch(method, path, headers, body) {
  let answered = false;
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(`${origin}${path}`, { method, headers, body, signal, redirect: "manual" });
    answered = true;
    return { status: response.status, text: await response.text() };
  } catch (error) {
    throw error.name === "TimeoutError" ? new Failure("timeout", `${TIMEOUT_MS} ms`) : broken(error, answered);
  }
}

let goaways = 0;
function session() {
  const made = http2.connect(origin);
  made.on("error", () => {}); // its streams tell
  made.on("goaway", () => {
    goaways++;
    made.left = true;
  });
  made.streams = 0;
  return made;
}

function overHttp2(sessions) {
  return (method, path, headers, body) =>
    new Promise((resolve, reject) => {
      const place = Math.floor(Math.random() * SESSIONS);
      let mine = sessions[place];
      if (!mine || mine.closed || mine.destroyed || mine.left || mine.streams >= STREAMS) {
        mine?.close();
        mine = sessions[place] = session();
      }
      mine.streams++;
      let status = 0;
      const pieces = [];
      const request = mine.request({ ":method": method, ":path": path, ...headers });
      request.setTimeout(TIMEOUT_MS, () => request.destroy(new Failure("timeout", `${TIMEOUT_MS} ms of silence`)));
      request.on("response", (answer) => (status = answer[":status"]));
      request.on("data", (piece) => pieces.push(piece));
      request.on("error", (error) => reject(broken(error, status > 0)));
      request.on("close", () => {
        if (request.rstCode || !request.readableEnded || !status) {
          reject(broken(new Error(`stream closed with code ${request.rstCode}`), status > 0));
        } else resolve({ status, text: Buffer.concat(pieces).toString() });
      });
      request.end(body);
    });
}

const agents = Array.from({ length: AGENTS }, () => new https.Agent({ keepAlive: true, timeout: IDLE_MS }));
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const clients = {
  "http/1.1": overHttps(() => pick(agents)),
  fetch: overFetch,
  "new connection": overHttps(() => new https.Agent({ keepAlive: false })),
  "http/2": overHttp2([]),
};

// The operations: each checks the whole answer, and returns {status, release, order}.

function expect(good, kind, message) {
  if (!good) throw new Failure(kind, message);
}

async function whole(visitor, path, headers = {}) {
  const answer = await visitor.send("GET", path, headers);
  expect(answer.status === 200, "status", `HTTP ${answer.status}`);
  expect(answer.text.trimEnd().endsWith("</html>"), "truncated", `${answer.text.length} characters`);
  return answer;
}

const UPLOADS = Array.from({ length: 4 }, () => {
  const body = randomBytes(64 * 1024);
  return { body, sha256: createHash("sha256").update(body).digest("hex") };
});
const PAGES = ["/flash-sale", "/products/1", "/products/2", "/products/3", "/trends"];
const unescaped = { "&quot;": '"', "&#x27;": "'", "&#39;": "'", "&lt;": "<", "&gt;": ">", "&amp;": "&" };
const plain = (text) => text.replace(/&(?:quot|#x27|#39|lt|gt|amp);/g, (found) => unescaped[found]);
let orders = 0;

const operations = {
  async page(visitor) {
    return whole(visitor, Math.random() < 0.2 ? `/products/${1 + Math.floor(Math.random() * 500)}` : pick(PAGES));
  },

  async stream(visitor) {
    const answer = await whole(visitor, "/streaming?chunks=10&delay=500");
    for (let n = 1; n <= 10; n++) expect(answer.text.includes(`data-chunk="${n}"`), "truncated", `no chunk ${n}`);
    return answer;
  },

  /** The page of the Server Action, as a browser would have it open for some seconds: its form and its files. */
  async form(visitor) {
    const answer = await whole(visitor, "/order");
    const fields = [...answer.text.matchAll(/<input[^>]*>/g)].map(([input]) => [
      /name="([^"]*)"/.exec(input)?.[1],
      plain(/value="([^"]*)"/.exec(input)?.[1] ?? ""),
    ]);
    const customer = /data-customer="([^"]*)"/.exec(answer.text)?.[1];
    expect(customer && fields.length > 1, "wrong", "no form");
    visitor.page = { customer, fields: fields.filter(([name]) => name) };
    visitor.files = [...new Set(answer.text.match(/\/_next\/static\/[^"'?\\ ]+/g))];
    return answer;
  },

  /** A Server Action with closure variables that works for 2 s, sent as a browser without JavaScript sends it. */
  async action(visitor) {
    const order = `${config.run}-${++orders}`;
    try {
      const boundary = `----${order}`;
      const inputs = [...visitor.page.fields.filter(([name]) => name !== "order"), ["order", order]];
      const parts = inputs.map(
        ([name, value]) => `--${boundary}\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
      );
      const headers = { origin: `https://${config.domain}`, "content-type": `multipart/form-data; boundary=${boundary}` };
      const { customer } = visitor.page;
      const answer = await visitor.send("POST", "/order", headers, `${parts.join("")}--${boundary}--\r\n`);
      expect(answer.status === 200, "status", `HTTP ${answer.status}`);
      const text = answer.text.replaceAll("<!-- -->", "");
      expect(text.trimEnd().endsWith("</html>"), "truncated", `${text.length} characters`);
      const said = new RegExp(`order ${order} of customer ${customer} taken by release ([\\w.-]+)`).exec(text);
      expect(said, "wrong", /data-result[^<]*<?/.exec(text)?.[0] ?? "no result");
      return { status: answer.status, release: said[1], order };
    } catch (error) {
      throw Object.assign(error, { order });
    }
  },

  async upload(visitor) {
    const { body, sha256 } = pick(UPLOADS);
    const headers = { "content-type": "application/octet-stream", "content-length": String(body.length) };
    const answer = await visitor.send("POST", "/api/upload", headers, body);
    expect(answer.status === 200, "status", `HTTP ${answer.status}`);
    const found = JSON.parse(answer.text);
    expect(found.bytes === body.length && found.sha256 === sha256, "wrong", answer.text);
    return answer;
  },

  async file(visitor) {
    const answer = await visitor.send("GET", pick([...visitor.files, "/images/gauge.png"]), {});
    expect(answer.status === 200, "status", `HTTP ${answer.status}`);
    expect(answer.text.length > 0, "truncated", "no content");
    return answer;
  },

  async info(visitor) {
    const answer = await visitor.send("GET", "/api/info", {});
    expect(answer.status === 200, "status", `HTTP ${answer.status}`);
    return { status: answer.status, release: JSON.parse(answer.text).release };
  },
};

const out = createWriteStream(config.out);
const visitors = Object.fromEntries(Object.entries(clients).map(([name, send]) => [name, { send, files: [] }]));
let open = 0;

async function visit(client, operation, due) {
  const late = Date.now() - due;
  open++;
  let result;
  try {
    result = { error: "", ...(await operations[operation](visitors[client])) };
  } catch (error) {
    result = { error: error instanceof Failure ? error.message : `wrong: ${error.message}`, order: error.order };
  }
  open--;
  const { status = 0, error, release = "", order = "" } = result;
  const row = [client, operation, due, late, Date.now() - due, status, error.slice(0, 200), release, order];
  out.write(`${JSON.stringify(row)}\n`);
}

async function main() {
  const names = Object.keys(config.rates);
  await Promise.all(names.map((client) => visit(client, "form", Date.now())));
  if (names.some((client) => !visitors[client].page)) {
    console.error("traffic: /order was not answered at the beginning");
    return out.end(() => process.exit(1));
  }
  const begin = Date.now();
  const jobs = names.flatMap((client) =>
    Object.entries(config.rates[client]).map(([operation, rate]) => {
      return { client, operation, gap: 1000 / rate, next: begin + (Math.random() * 1000) / rate };
    }),
  );
  console.log("ready");
  const clock = setInterval(() => {
    const now = Date.now();
    for (const job of jobs) {
      for (; job.next <= now; job.next += job.gap) visit(job.client, job.operation, Math.round(job.next));
    }
  }, TICK_MS);
  process.stdin.resume().on("end", () => {
    clearInterval(clock);
    const deadline = Date.now() + TIMEOUT_MS + 5_000;
    const waiting = setInterval(() => {
      if (open && Date.now() < deadline) return;
      clearInterval(waiting);
      out.write(`${JSON.stringify({ goaways, open })}\n`);
      out.end(() => process.exit(0));
    }, 50);
  });
}

main();
