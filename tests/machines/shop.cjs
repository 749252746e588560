"use strict";
/**
 * A server that answers like the sample app, over HTTP/1.1 and HTTP/2, and fails as it is told, to see whether the load
 * notices: node shop.cjs CERTIFICATE KEY [FAULT]. FAULT is one of cut (a stream ends early), half (its end is
 * missing, politely), error (503), reset (the connection of every third action is destroyed), twice (an order is
 * carried out twice), forget (it is answered and not carried out), mangle (an upload arrives changed).
 * Prints its port, then the app's log.
 */
const { createHash, randomUUID } = require("node:crypto");
const { readFileSync } = require("node:fs");
const http2 = require("node:http2");

const [certificate, key, fault = ""] = process.argv.slice(2);
let actions = 0;

/** As a process that dies does it, or a proxy in front of it. */
function broken(request) {
  if (request.stream) request.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  else request.socket.destroy();
}

async function answer(request, response) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const body = Buffer.concat(pieces);
  const path = request.url.split("?")[0];
  const html = (inside) => {
    response.setHeader("content-type", "text/html");
    response.end(`<html>${inside}</html>`);
  };
  if (path === "/streaming") {
    for (let n = 1; n <= 10; n++) {
      response.write(`<p data-chunk="${n}">`);
      await new Promise((resolve) => setTimeout(resolve, 10));
      if (fault === "cut" && n === 5) return broken(request);
      if (fault === "half" && n === 5) return response.end();
    }
    return response.end("</html>");
  }
  if (path === "/order" && request.method === "GET") {
    const customer = randomUUID();
    const hidden = `<input type="hidden" name="$ACTION_1:0" value="{&quot;id&quot;:&quot;${customer}&quot;}"/>`;
    return html(`<script src="/_next/static/a.js"></script><main data-customer="${customer}">${hidden}<input name="order">`);
  }
  if (path === "/order") {
    if (fault === "reset" && ++actions % 3 === 0) return broken(request);
    const order = /name="order"\r\n\r\n([\w-]+)/.exec(body)[1];
    const customer = /"id":"([\w-]+)"/.exec(body)[1];
    for (let n = { forget: 0, twice: 2 }[fault] ?? 1; n > 0; n--) console.log(`order ${order} begun\norder ${order} done`);
    return html(`<output>order <!-- -->${order}<!-- --> of customer ${customer} taken by release r1</output>`);
  }
  if (path === "/api/upload") {
    if (fault === "mangle") body[0] ^= 1;
    return response.end(JSON.stringify({ bytes: body.length, sha256: createHash("sha256").update(body).digest("hex") }));
  }
  if (path === "/api/info") {
    response.statusCode = fault === "error" ? 503 : 200;
    return response.end(JSON.stringify({ release: "r1" }));
  }
  html("x".repeat(2000));
}

const options = { cert: readFileSync(certificate), key: readFileSync(key), allowHTTP1: true };
const server = http2.createSecureServer(options, (request, response) => answer(request, response).catch(console.error));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit(0));
