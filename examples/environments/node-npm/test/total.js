"use strict";

const assert = require("assert");
const { total } = require("..");

describe("total", () => {
  it("adds durations", () => assert.strictEqual(total(["1m", "2s"]), 62000));
  it("of none is zero", () => assert.strictEqual(total([]), 0));
});
