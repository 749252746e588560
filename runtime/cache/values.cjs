"use strict";
/**
 * Entries as bytes. A header in JSON and, behind it, the binary parts and long texts as they are:
 *
 *   "RB1" | length of the header, 4 bytes, big endian | header | part | part | ...
 *
 * The header is `{"s": [size of each part], "e": entry}`. What JSON cannot say is an object with the one
 * key "$": a binary part, a text part, a Map, undefined, a number that is not finite, an escaped "$".
 * Next.js stores Buffers, Maps of Buffers, text and plain data (server/response-cache/types.d.ts); anything
 * else is refused, never bent into another shape.
 */

const MAGIC = Buffer.from("RB1");
const HEAD = MAGIC.length + 4;
/** Texts from this length on are a part of their own: escaping HTML for JSON costs time and space. */
const LONG_TEXT = 512;

/**
 * @param {unknown} entry
 * @returns {Buffer}
 * @throws {TypeError} for a value that would not come back as it is
 */
function encode(entry) {
  const parts = [];
  const e = pack(entry, parts);
  const header = Buffer.from(JSON.stringify({ s: parts.map((part) => part.length), e }));
  const head = Buffer.alloc(HEAD);
  MAGIC.copy(head);
  head.writeUInt32BE(header.length, MAGIC.length);
  return Buffer.concat([head, header, ...parts]);
}

function pack(value, parts) {
  const place = (part, kind) => ({ $: [kind, parts.push(part) - 1] });
  if (value === undefined) return { $: ["undefined"] };
  if (value === null || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : { $: ["number", String(value)] };
  if (typeof value === "string") {
    // A lone surrogate has no UTF-8; JSON escapes it.
    return value.length >= LONG_TEXT && value.isWellFormed() ? place(Buffer.from(value), "text") : value;
  }
  if (ArrayBuffer.isView(value)) {
    if (!(value instanceof Uint8Array)) throw new TypeError(`cannot cache a ${value.constructor.name}`);
    return place(Buffer.from(value.buffer, value.byteOffset, value.byteLength), "bytes");
  }
  if (Array.isArray(value)) return Array.from(value, (item) => pack(item, parts));
  if (value instanceof Map) return { $: ["map", [...value].map((pair) => pair.map((item) => pack(item, parts)))] };
  if (typeof value === "object" && isPlain(value)) {
    const packed = Object.fromEntries(Object.entries(value).map(([name, item]) => [name, pack(item, parts)]));
    return "$" in packed ? { $: ["object", Object.entries(packed)] } : packed;
  }
  throw new TypeError(`cannot cache a ${typeof value === "object" ? value.constructor?.name : typeof value}`);
}

function isPlain(value) {
  const prototype = Object.getPrototypeOf(value);
  // Values of route handlers may come from another realm, where Object is another object.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/**
 * @param {Buffer} bytes its memory is shared with the Buffers of the result
 * @returns {any} the entry, or undefined for bytes that this version cannot read
 */
function decode(bytes) {
  try {
    if (bytes.length < HEAD || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
    const end = HEAD + bytes.readUInt32BE(MAGIC.length);
    const { s: sizes, e } = JSON.parse(bytes.toString("utf8", HEAD, end));
    let at = end;
    const parts = sizes.map((size) => bytes.subarray(at, (at += size)));
    return at === bytes.length ? unpack(e, parts) : undefined;
  } catch {
    return undefined;
  }
}

function unpack(packed, parts) {
  if (packed === null || typeof packed !== "object") return packed;
  if (Array.isArray(packed)) return packed.map((item) => unpack(item, parts));
  if (!packed.$) return fromPairs(Object.entries(packed), parts);
  const [kind, what] = packed.$;
  if (kind === "bytes") return parts[what];
  if (kind === "text") return parts[what].toString();
  if (kind === "map") return new Map(what.map((pair) => pair.map((item) => unpack(item, parts))));
  if (kind === "number") return Number(what);
  if (kind === "object") return fromPairs(what, parts);
  if (kind === "undefined") return undefined;
  throw new TypeError(`unknown kind ${kind}`);
}

function fromPairs(pairs, parts) {
  return Object.fromEntries(pairs.map(([name, item]) => [name, unpack(item, parts)]));
}

module.exports = { encode, decode };
