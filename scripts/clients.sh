#!/usr/bin/env bash
# Others' programs for the tests: the OpenAI SDK and lm-evaluation-harness, without torch, and SGLang's router.
#
#   scripts/clients.sh          install them if they aren't there (a minute, 0.6 GB); prints their python
#   scripts/clients.sh path     only say where that would be; exit code 3 when it isn't complete
#
# They land in Patchwright's cache under a name that holds the hash of their requirements.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say_as=clients
requirements=$root/requirements/clients.txt
cache=${PATCHWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/patchwright}
target=$cache/clients-$(sha256sum "$requirements" | cut -c1-12)

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
    say "installing the OpenAI SDK, lm-evaluation-harness and sglang-router"
    pip_install "$target" --no-deps --no-compile --require-hashes -r "$requirements"
    env -u PYTHONDONTWRITEBYTECODE "$target/bin/python" -W ignore -c \
        'import openai, sglang_router.launch_router, lm_eval.__main__, lm_eval.evaluator, lm_eval.models.openai_completions' >&2 ||
        die "the clients can't be imported on this machine; the lines above say why."
    touch "$target/complete"
    say "done in $(($(date +%s) - started)) s, $(du -sh "$target" | cut -f1)"
fi
echo "$target/bin/python"
