#!/usr/bin/env bash
# The demo: `agent fix` on examples/demo with the demo model, in Docker where the engine runs, else in bubblewrap.
#
#   scripts/demo.sh [options of `agent fix`], e.g. --sandbox bubblewrap --temperature 0
#
# MODEL says what runs the model: `embedded` (the default) is transformers in the agent's own process, `sglang` the
# real SGLang server on this machine's CPU, started by `agent model serve` for as long as the demo takes.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
checkpoint=examples/demo/model
folder=$(mktemp -d)
server=
trap 'stop; rm -rf "$folder"' EXIT
say() { printf '\n\033[1m[demo]\033[0m %s\n' "$*"; }

stop() { [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" || true; }; }

serve() { # sets `model` to the URL
    local port
    port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    model=http://127.0.0.1:$port
    echo "  agent model serve $checkpoint --device cpu --port $port"
    PATCHWRIGHT_SGLANG_PYTHON=$PWD/examples/sglang_cpu/python PATCHWRIGHT_HOME=$folder/home \
        "$venv/bin/agent" model serve "$checkpoint" --device cpu --port "$port" >"$folder/serve.log" 2>&1 &
    server=$!
    until "$venv/bin/python" -c "import urllib.request; urllib.request.urlopen('$model/health', timeout=5)" 2>/dev/null; do
        kill -0 "$server" 2>/dev/null || { cat "$folder/serve.log"; say "SGLang didn't start"; exit 1; }
        sleep 1
    done
}

say "a small Python package with a bug and two failing tests, under git in $folder/repo"
"$venv/bin/python" examples/demo/prepare.py "$folder/repo" >/dev/null
say "the demo model is a recording with some tolerance (1.5 million parameters): it shows the plumbing, not skill"
case ${MODEL:-embedded} in
    embedded) model=$checkpoint ;;
    sglang) serve ;;
    *) say "MODEL is embedded or sglang, not $MODEL"; exit 2 ;;
esac
echo "  agent fix $folder/repo examples/demo/issue.md --model $model $*"
PATCHWRIGHT_HOME=${PATCHWRIGHT_HOME:-$PWD/.cache/demo} \
    "$venv/bin/agent" fix "$folder/repo" examples/demo/issue.md --model "$model" --out "$folder/fix.diff" "$@"
say "the patch"
cat "$folder/fix.diff"
