"use strict";
/**
 * Marks the answers that a shared cache may keep, so that nginx takes them in whole and keeps them; every other
 * answer goes through it piece by piece. nginx takes the header away.
 * https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
 */
const { guardedPaths } = require("./guarded.cjs");

const MARK = "x-accel-buffering";
const NOT_SHARED = /\b(?:private|no-store|no-cache)\b/i;
const SHARED = /\bs-maxage\s*=\s*"?0*[1-9]/i;

let guarded;

/** With ROADBED_SHARE_GUARDED the user says that middleware and conditions look at URL and cookies alone. */
function mayDiffer(url) {
  if (process.env.ROADBED_SHARE_GUARDED) return false;
  guarded ??= guardedPaths();
  return guarded(url);
}

/** Looks at the headers at the last moment. What the app has said itself stays. */
function markSharable(request, response, differs = mayDiffer) {
  const { writeHead } = response;
  response.writeHead = function (...words) {
    if (!response.headersSent) {
      const given = words.find((word) => typeof word === "object" && word !== null);
      const said = (name) => String(valueIn(given, name) ?? response.getHeader(name) ?? "");
      const control = said("cache-control");
      const shared = SHARED.test(control) && !NOT_SHARED.test(control) && !said(MARK);
      if (shared && !differs(request.url)) response.setHeader(MARK, "yes");
    }
    return writeHead.apply(this, words);
  };
}

/** A header as it may be given to writeHead: by name, in pairs, or in a flat list. */
function valueIn(given, wanted) {
  if (!given) return undefined;
  const flat = Array.isArray(given) ? given.flat() : Object.entries(given).flat();
  const at = flat.findIndex((name, n) => n % 2 === 0 && String(name).toLowerCase() === wanted);
  return at < 0 ? undefined : flat[at + 1];
}

module.exports = { markSharable };
