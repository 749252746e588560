"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { TagState, EVERYTHING } = require("../cache/tag-state.cjs");

const state = (limit = 100, floor = 0) => new TagState(limit, floor);

test("revalidated at once: what was made before is expired, what is made later is fresh", () => {
  const tags = state();
  tags.add(100, ["a"], null);
  assert.equal(tags.judge(["b", "a"], 99, 200), "expired");
  assert.equal(tags.judge(["a"], 100, 200), "expired", "made in the same ms: it may have seen the old data");
  assert.equal(tags.judge(["a"], 101, 200), "fresh");
  assert.equal(tags.judge(["b"], 1, 200), "fresh");
  assert.equal(tags.judge([], 1, 200), "fresh");
});

test("with a profile: stale at once, expired when its time has come", () => {
  const tags = state();
  tags.add(100, ["a"], { expire: 1 });
  assert.equal(tags.judge(["a"], 50, 200), "stale");
  assert.equal(tags.judge(["a"], 50, 1099), "stale");
  assert.equal(tags.judge(["a"], 50, 1100), "expired");
  assert.equal(tags.judge(["a"], 150, 1200), "fresh", "made after it was revalidated");
});

test("a profile without an end never expires", () => {
  const tags = state();
  tags.add(100, ["a"], {});
  assert.equal(tags.judge(["a"], 50, 1e15), "stale");
});

test("a profile does not take back what has expired", () => {
  const tags = state();
  tags.add(100, ["a"], null);
  tags.add(200, ["a"], { expire: 3600 });
  assert.equal(tags.judge(["a"], 50, 300), "expired");
  assert.equal(tags.judge(["a"], 150, 300), "stale");
});

test("the sooner of two announced expiries counts", () => {
  const tags = state();
  tags.add(100, ["a"], { expire: 1 });
  tags.add(200, ["a"], { expire: 3600 });
  assert.equal(tags.judge(["a"], 50, 1101), "expired");
});

test("events may arrive late or twice", () => {
  const tags = state();
  tags.add(200, ["a"], null);
  tags.add(100, ["a"], null);
  assert.equal(tags.judge(["a"], 150, 300), "expired");
  assert.equal(tags.judge(["a"], 250, 300), "fresh");
});

test("expire 0 is at once", () => {
  const tags = state();
  tags.add(100, ["a"], { expire: 0 });
  assert.equal(tags.judge(["a"], 50, 100), "expired");
});

test("the number of tags is bounded, and what was forgotten is not taken for fresh", () => {
  const tags = state(10);
  for (let n = 1; n <= 100; n += 1) tags.add(n, [`t${n}`], null);
  assert.equal(tags.size, 10);
  assert.equal(tags.judge(["t50"], 40, 200), "stale");
  assert.equal(tags.judge(["t95"], 94, 200), "expired");
  assert.equal(tags.judge(["t50"], 95, 200), "fresh");
});

test("what was made before the floor is stale", () => {
  const tags = state(10, 1000);
  assert.equal(tags.judge([], 1000, 2000), "stale");
  assert.equal(tags.judge([], 1001, 2000), "fresh");
});

test("everything can be revalidated", () => {
  const tags = state();
  tags.add(100, [EVERYTHING], null);
  assert.equal(tags.judge(["a"], 99, 200), "expired");
  assert.equal(tags.judge([], 99, 200), "expired");
  assert.equal(tags.judge(["a"], 101, 200), "fresh");
});

test("the last expiry of a list of tags", () => {
  const tags = state();
  assert.equal(tags.lastExpired(["a"], 50), 0);
  tags.add(100, ["a"], null);
  tags.add(150, ["b"], { expire: 1 });
  assert.equal(tags.lastExpired(["a", "b", "c"], 200), 100);
  assert.equal(tags.lastExpired(["a", "b", "c"], 1200), 150);
});
