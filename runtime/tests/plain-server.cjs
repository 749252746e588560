"use strict";
// A server that starts and stops as Next.js does (start-server.js): it holds requests until it has loaded,
// and on SIGTERM closes the server and exits with 143. Spawned by the tests, with ../server.cjs preloaded.
const http = require("node:http");
const { setTimeout: sleep } = require("node:timers/promises");

const loaded = sleep(Number(process.env.LOAD_MS ?? 0));

const server = http.createServer(async (request, response) => {
  await loaded;
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  if (pathname === "/slow") await sleep(Number(searchParams.get("ms")));
  if (pathname === "/stream") {
    for (let n = 1; n <= 4; n += 1) {
      response.write(`${n}\n`);
      await sleep(100);
    }
  }
  if (pathname === "/endless") return void response.write("begun\n");
  if (process.env.BROKEN) return void response.writeHead(500).end();
  response.statusCode = ["/", "/slow", "/stream"].includes(pathname) ? 200 : 404;
  response.end(`answered ${pathname}`);
});
server.on("upgrade", (_request, socket) => {
  socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
  socket.pipe(socket);
});
server.on("listening", () => {
  if (process.env.TRACE_LATE) traceLikeALibrary();
  if (process.env.NEXT_MANUAL_SIG_HANDLE) return;
  process.on("SIGTERM", () => server.close(() => process.exit(143)));
});
if (process.env.PURGE_MS) {
  const flush = async () => console.log(await sleep(Number(process.env.PURGE_MS), "told the CDN"));
  globalThis[Symbol.for("roadbed.purge")] = { pending: true, flush };
}
server.listen(Number(process.env.PORT), process.env.HOSTNAME);

function traceLikeALibrary() {
  const emit = http.Server.prototype.emit;
  http.Server.prototype.emit = function traced(event, ...args) {
    if (event === "request") args[1].setHeader("x-traced", "1");
    return emit.call(this, event, ...args);
  };
}
