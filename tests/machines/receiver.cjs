"use strict";
// Plays the far ends of the edge: keeps what it is told by POST (GET /seen shows it), and answers every other
// request as an image service would, with what it was asked for.
const http = require("node:http");

const seen = [];

async function answer(request, response) {
  const body = Buffer.concat(await request.toArray()).toString();
  if (request.url === "/seen") return response.end(JSON.stringify(seen));
  if (request.method === "POST") {
    const { authorization } = request.headers;
    seen.push({ at: Date.now() / 1000, path: request.url, authorization, ...JSON.parse(body) });
    return response.writeHead(204).end();
  }
  response.writeHead(200, { "content-type": "image/webp", "cache-control": "public, max-age=60" });
  return response.end(JSON.stringify({ url: request.url, headers: request.headers, at: Date.now() }));
}

http.createServer(answer).listen(9099);
