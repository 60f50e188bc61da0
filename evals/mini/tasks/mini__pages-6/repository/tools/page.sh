#!/bin/sh
# Writes the page of a source to standard output.
set -eu
source=$1
[ -s "$source" ] || { echo "$source is empty: its first line is the title" >&2; exit 1; }

title=$(sh tools/title.sh "$source")
awk -v title="$title" '{ gsub(/@TITLE@/, title); print }' parts/head.html
awk -f tools/paragraphs.awk "$source"
cat parts/foot.html
