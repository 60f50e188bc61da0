"use strict";

const assert = require("node:assert");
const test = require("node:test");
const { slug } = require("./index.js");

test("words are joined by dashes", () => assert.strictEqual(slug("Hello, world!"), "hello-world"));
test("nothing stays nothing", () => assert.strictEqual(slug("!?"), ""));
