"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const vm = require("node:vm");
const { decode, encode } = require("../cache/values.cjs");

const everyByte = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
const html = `<!DOCTYPE html><p>${"€ \"quoted\" \u2028 <b>".repeat(200)}</p>`;

/** As Next.js 14 to 16 hand them over. */
const kinds = {
  "page of the app router": {
    kind: "APP_PAGE",
    html,
    rscData: everyByte,
    postponed: undefined,
    headers: { "x-next-cache-tags": "a,_N_T_/layout", "set-cookie": ["a=1", "b=2"] },
    status: 200,
    segmentData: new Map([["/_tree", everyByte], ["/page", Buffer.alloc(0)]]),
  },
  "route handler": { kind: "APP_ROUTE", body: everyByte, headers: { "content-type": "image/png" }, status: 200 },
  "page of the pages router": { kind: "PAGES", html, pageData: { props: { a: null, $: 1 } }, headers: {}, status: 404 },
  "page of 14": { kind: "PAGE", html, pageData: "0:\"text\"", headers: {}, status: undefined },
  fetch: { kind: "FETCH", data: { headers: {}, body: "aGk=", status: 200, url: "http://x/" }, revalidate: false },
  redirect: { kind: "REDIRECT", props: { pageProps: { __N_REDIRECT: "/to", __N_REDIRECT_STATUS: 307 } } },
  "not found": null,
};

for (const [name, value] of Object.entries(kinds)) {
  test(`${name} comes back as it was`, () => {
    const entry = { value, made: 1.5, tags: ["t"], lifetime: { revalidate: 5, expire: undefined } };
    assert.deepStrictEqual(decode(encode(entry)), entry);
  });
}

test("what JSON cannot say comes back too", () => {
  const odd = {
    $: "escaped",
    nested: { $: ["bytes", 0] },
    list: [undefined, NaN, Infinity, -Infinity, "", new Map([[{ a: 1 }, [everyByte]]])],
    surrogate: `\ud800${"x".repeat(1000)}`,
    __proto__: null,
  };
  assert.deepStrictEqual(decode(encode({ ...odd })), { ...odd });
});

test("a key named __proto__ stays a key", () => {
  const value = JSON.parse('{"__proto__": {"polluted": true}}');
  const back = decode(encode(value));
  assert.ok(Object.hasOwn(back, "__proto__"));
  assert.equal({}.polluted, undefined);
});

test("a Uint8Array becomes a Buffer with the same bytes, a view only its part", () => {
  const view = new Uint8Array(everyByte.buffer, everyByte.byteOffset + 10, 5);
  assert.deepStrictEqual(decode(encode({ view })).view, Buffer.from([10, 11, 12, 13, 14]));
});

test("plain objects of another realm are plain", () => {
  assert.deepEqual(decode(encode(vm.runInNewContext("({a: [1, {b: 2}]})"))), { a: [1, { b: 2 }] });
});

test("a long text is stored as it is, not escaped", () => {
  assert.ok(encode({ html }).includes(Buffer.from(html)));
});

test("what would come back as something else is refused", () => {
  for (const value of [new Date(), new Set(), () => {}, 1n, Symbol("s"), new Float64Array(1), new (class A {})()]) {
    assert.throws(() => encode({ value }), TypeError);
  }
});

test("bytes that are not an entry of this version are a miss", () => {
  const good = encode({ value: everyByte });
  const bad = [
    Buffer.alloc(0),
    Buffer.from("hello"),
    Buffer.from("RB2{}"),
    good.subarray(0, good.length - 1),
    Buffer.concat([good, Buffer.from("x")]),
    Buffer.concat([Buffer.from("RB1"), Buffer.from([255, 255, 255, 255]), Buffer.from("{}")]),
    Buffer.concat([Buffer.from("RB1"), Buffer.from([0, 0, 0, 26]), Buffer.from('{"s":[],"e":{"$":["new"]}}')]),
    Buffer.concat([Buffer.from("RB1"), Buffer.from([0, 0, 0, 4]), Buffer.from("null")]),
  ];
  for (const bytes of bad) assert.equal(decode(bytes), undefined, JSON.stringify(String(bytes)));
});
