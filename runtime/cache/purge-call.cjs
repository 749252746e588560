"use strict";
/** The two ways to tell a CDN. Nothing that they are given is written to a log. */
const { spawn } = require("node:child_process");
const http = require("node:http");
const https = require("node:https");

/** @param {URL} url @param {string} [token] sent as a bearer token */
function tellUrl(url, token) {
  const { request } = url.protocol === "https:" ? https : http;
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  return (body, timeoutMs) =>
    new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(timeoutMs);
      const sent = request(url, { method: "POST", headers, signal, agent: false }, (response) => {
        const { statusCode } = response.resume();
        if (statusCode >= 200 && statusCode < 300) return resolve();
        const again = statusCode >= 500 || statusCode === 408 || statusCode === 429;
        return reject(Object.assign(new Error(`it answers ${statusCode}`), { final: !again }));
      });
      sent.on("error", (error) => reject(signal.aborted ? new Error(`no answer in ${timeoutMs / 1000} s`) : error));
      sent.end(body);
    });
}

/** @param {string[]} words an absolute path and its arguments @param {string} [token] in ROADBED_PURGE_TOKEN */
function tellCommand([program, ...words], token) {
  const env = { PATH: "/usr/local/bin:/usr/bin:/bin", LANG: "C.UTF-8", ...(token && { ROADBED_PURGE_TOKEN: token }) };
  return (body, timeoutMs) =>
    new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(timeoutMs);
      const child = spawn(program, words, { env, stdio: ["pipe", "ignore", "inherit"], signal, killSignal: "SIGKILL" });
      const failed = (why) => reject(new Error(`${program}: ${why}`));
      child.on("error", (error) => failed(signal.aborted ? `no end in ${timeoutMs / 1000} s` : error.code));
      child.on("close", (code, by) => (code === 0 ? resolve() : failed(`ended with ${by ?? code}`)));
      child.stdin.on("error", () => {}); // it need not read
      child.stdin.end(body);
    });
}

module.exports = { tellUrl, tellCommand };
