"use strict";

const ms = require("ms");

exports.total = (durations) => durations.reduce((sum, one) => sum + ms(one), 0);
