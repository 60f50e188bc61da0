#!/usr/bin/env bash
# The demo: `agent fix` on examples/demo with the demo model, in Docker where the engine runs, else in bubblewrap.
#
# scripts/demo.sh [options of `agent fix`], e.g. --sandbox bubblewrap --temperature 0
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
say() { printf '\n\033[1m[demo]\033[0m %s\n' "$*"; }

say "a small Python package with a bug and two failing tests, under git in $folder/repo"
"$venv/bin/python" examples/demo/prepare.py "$folder/repo" >/dev/null
say "the demo model is a recording with some tolerance (1.5 million parameters): it shows the plumbing, not skill"
echo "  agent fix $folder/repo examples/demo/issue.md --model examples/demo/model $*"
PATCHWRIGHT_HOME=${PATCHWRIGHT_HOME:-$PWD/.cache/demo} \
    "$venv/bin/agent" fix "$folder/repo" examples/demo/issue.md --model examples/demo/model --out "$folder/fix.diff" "$@"
say "the patch"
cat "$folder/fix.diff"
