#!/usr/bin/env bash
# SGLang on a machine without a GPU, for the tests (see examples/sglang_cpu/README.md).
#
#   scripts/sglang-cpu.sh          install it if it isn't there (minutes, 1.5 GB); prints the python to start it with
#   scripts/sglang-cpu.sh path     only say where that venv would be; exit code 3 when it isn't complete
#
# It lands in Patchwright's cache under a name that holds the hash of its requirements. Installs the unmodified
# package from the registry and no Debian package, and removes nothing but an unfinished venv of the same name.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say_as=sglang-cpu
requirements=$root/requirements/sglang-cpu.txt
cache=${PATCHWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/patchwright}
target=$cache/sglang-cpu-$(sha256sum "$requirements" | cut -c1-12)
python=$root/examples/sglang_cpu/python

case ${1:-install} in
    path)
        echo "$target"
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
    install_torch "$target" --no-deps --no-compile
    say "installing SGLang and what it needs ($(grep -c '^[a-z]' "$requirements") packages)"
    pip_install "$target" --no-deps --no-compile --require-hashes -r "$requirements"
    say "checking that it starts (what it imports is compiled now, and only that)"
    touch "$target/complete" # the python below asks for it
    if ! env -u PYTHONDONTWRITEBYTECODE "$python" -W ignore -c '
import sglang.srt.entrypoints.http_server, sglang.srt.managers.detokenizer_manager, sglang.srt.managers.scheduler
import sglang.srt.models.registry, triton' >&2; then
        rm "$target/complete"
        die "SGLang can't be imported on this machine; the lines above say why."
    fi
    say "done in $(($(date +%s) - started)) s, $(du -sh "$target" | cut -f1)"
fi
echo "$python"
