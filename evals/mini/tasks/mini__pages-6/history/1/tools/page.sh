#!/bin/sh
# Writes the page of a source to standard output.
set -eu
title=$(head -n 1 "$1")
sed "s/@TITLE@/$title/" parts/head.html
awk -f tools/paragraphs.awk "$1"
cat parts/foot.html
