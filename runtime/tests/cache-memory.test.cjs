"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { Memory } = require("../cache/memory.cjs");

test("the least recently used goes first, and the bound holds", () => {
  const memory = new Memory(10_000);
  for (let n = 0; n < 5; n += 1) memory.set(`k${n}`, Buffer.alloc(2_000, n), n);
  assert.ok(memory.bytes <= 10_000);
  assert.equal(memory.get("k0"), undefined);
  memory.get("k1");
  memory.set("k9", Buffer.alloc(2_000), 9);
  assert.ok(memory.get("k1"));
  assert.equal(memory.get("k2"), undefined);
});

test("what is larger than the bound is not kept and pushes nothing out", () => {
  const memory = new Memory(10_000);
  memory.set("small", Buffer.alloc(10), 1);
  memory.set("large", Buffer.alloc(10_000), 1);
  assert.equal(memory.get("large"), undefined);
  assert.ok(memory.get("small"));
});

test("a newer entry replaces, an equal one is not copied again, deleting frees", () => {
  const memory = new Memory(10_000);
  memory.set("k", Buffer.from("one"), 1);
  const kept = memory.get("k").bytes;
  memory.set("k", Buffer.from("one"), 1);
  assert.equal(memory.get("k").bytes, kept);
  memory.set("k", Buffer.from("two"), 2);
  assert.equal(String(memory.get("k").bytes), "two");
  memory.delete("k");
  memory.delete("k");
  assert.equal(memory.bytes, 0);
});

test("it keeps a copy, not a view on the buffer of a socket", () => {
  const memory = new Memory(10_000);
  const socket = Buffer.from("entry and what came behind it");
  memory.set("k", socket.subarray(0, 5), 1);
  socket.fill(0);
  assert.equal(String(memory.get("k").bytes), "entry");
});
