#!/bin/sh
# Writes the title of a source, fit for HTML.
sed -n -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e '1p' "$1"
