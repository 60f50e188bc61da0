#!/bin/sh
# Writes the index of the sources to standard output, in the order of their titles.
set -eu

awk '{ gsub(/@TITLE@/, "All pages"); print }' parts/head.html
echo "<ul>"
for source in "$@"; do
    name=${source#src/}
    printf '%s\t%s\n' "$(sh tools/title.sh "$source")" "${name%.txt}"
done | sort | awk -F '\t' '{ printf "<li><a href=\"%s.html\">%s</a></li>\n", $2, $1 }'
echo "</ul>"
cat parts/foot.html
