#!/bin/sh
# Fetches what the dashboard ships of others, htmx and uPlot, as npm packages, and copies it with its licences into
# service/dashboard/static/vendor. vendored.json names what came from where; a test holds the files to it.
#
#   scripts/vendor.sh          # the versions below
set -eu
cd "$(dirname "$0")/.."
folder=service/dashboard/static/vendor
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# package, version, licence, file in the package, name here
list() {
    cat <<'END'
htmx.org 2.0.11 0BSD dist/htmx.min.js htmx.min.js
htmx.org 2.0.11 0BSD LICENSE htmx.LICENSE
uplot 1.6.32 MIT dist/uPlot.iife.min.js uPlot.iife.min.js
uplot 1.6.32 MIT dist/uPlot.min.css uPlot.min.css
uplot 1.6.32 MIT LICENSE uPlot.LICENSE
END
}

list | cut -d' ' -f1,2 | sort -u | while read -r name version; do
    mkdir "$work/$name"
    (cd "$work/$name" && npm pack --ignore-scripts --silent "$name@$version" > /dev/null && tar xzf ./*.tgz)
done
mkdir -p "$folder"
find "$folder" -type f -delete
{
    printf '['
    comma=''
    list | while read -r name version licence file here; do
        said=$(sed -n 's/^ *"license": *"\([^"]*\)".*/\1/p' "$work/$name/package/package.json")
        [ "$said" = "$licence" ] || { echo "$name $version has the licence $said, not $licence" >&2; exit 1; }
        cp "$work/$name/package/$file" "$folder/$here"
        sum=$(sha256sum "$folder/$here" | cut -d' ' -f1)
        printf '%s\n {"name": "%s", "version": "%s", "licence": "%s", "source": "%s", "file": "vendor/%s", "sha256": "%s"}' \
            "$comma" "$name" "$version" "$licence" "$file" "$here" "$sum"
        comma=','
    done
    printf '\n]\n'
} > "$work/vendored.json"
mv "$work/vendored.json" service/dashboard/static/vendored.json
