#!/usr/bin/env bash
# The official graders: the wheels of swebench 5.0.2 and 4.1.0, without what they depend on (seconds, 0.3 MB).
#
#   scripts/swebench.sh           fetch what isn't there; prints the folder. They land in Patchwright's cache.
#   scripts/swebench.sh path      only say where that would be; exit code 3 when it isn't complete
#   scripts/swebench.sh package   swebench 5.0.2 as its users install it, with its dependencies (a minute, 0.5 GB), for
#                                 benchmarks/evals.py; prints its python
#
# Grading itself needs none of this: it is for languages whose parsers we don't have, for `--official` and for tests.
# Without a network: put the two wheels, taken elsewhere by `pip download --no-deps`, into the folder that `path` says.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say_as=swebench
requirements=$root/requirements/swebench.txt
cache=${PATCHWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/patchwright}
target=$cache/swebench

complete() {
    local wanted
    for wanted in $(sed -nE 's/^swebench==([^ ]*) .*/\1/p' "$requirements"); do
        [ -e "$target/swebench-$wanted-py3-none-any.whl" ] || return 1
    done
}

case ${1:-install} in
    path)
        echo "$target"
        complete || exit 3
        exit
        ;;
    install | package) ;;
    *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

. "$root/scripts/common.sh"
mkdir -p "$target"
exec 9>"$target/.lock"
flock -n 9 || { say "another set-up is going on; waiting for it"; flock 9; }

if [ "${1:-}" = package ]; then
    venv=$cache/swebench-package-$(sha256sum "$requirements" | cut -c1-12)
    if [ ! -e "$venv/complete" ]; then
        make_venv "$venv" 9>&-
        say "installing swebench 5.0.2 with its dependencies"
        pip_install "$venv" swebench==5.0.2
        touch "$venv/complete"
    fi
    echo "$venv/bin/python"
    exit
fi

if ! complete; then
    say "fetching the wheels of swebench 5.0.2 and 4.1.0"
    scratch=$(mktemp -d "$target/.unfinished-XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    python=$(find_python)
    for pinned in $(sed -nE 's/^swebench==([^ ]*) .*/\1/p' "$requirements"); do
        grep "^swebench==$pinned " "$requirements" >"$scratch/list.txt"
        "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
            -r "$scratch/list.txt" -d "$scratch" || die "swebench $pinned can't be had; the lines above say why"
    done
    mv "$scratch"/*.whl "$target/"
fi
echo "$target"
