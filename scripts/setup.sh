#!/usr/bin/env bash
# Set-up for the make targets: scripts/setup.sh demo|bot-demo|test|test-all|bench [sglang]
#
# Makes .venv with what the target needs, and the sandbox that it runs in. Says what it does, does nothing that is
# done already, and works as root (Debian packages are installed) and without (they are unpacked into a cache).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: scripts/setup.sh demo|bot-demo|test|test-all|bench [sglang]}
venv=${VENV:-.venv}
say_as=setup
. scripts/common.sh

stamp() { # the files that a step depends on; prints their hash
    sha256sum "$@" | sha256sum | cut -c1-16
}

step() { # name, hash, command...: run once per hash
    local mark="$venv/.setup-$1" hash=$2
    shift 2
    [ "$(cat "$mark" 2>/dev/null)" = "$hash" ] && return
    "$@"
    echo "$hash" >"$mark"
}

install_core() {
    say "installing Patchwright with what its tests need"
    pip_install "$venv" --require-hashes -r requirements/dev.txt
    pip_install "$venv" --no-deps -e .
}

install_service() {
    say "installing Patchwright with what its service needs"
    pip_install "$venv" --require-hashes -r deploy/requirements.txt -r deploy/build-requirements.txt
    pip_install "$venv" --no-deps --no-build-isolation -e .
}

install_embedded() {
    "$venv/bin/python" -c 'import torch' 2>/dev/null || install_torch "$venv"
    say "installing transformers"
    pip_install "$venv" --no-deps --require-hashes -r requirements/embedded.txt
}

has_core() { [ "$(cat "$venv/.setup-core" 2>/dev/null)" = "$(stamp requirements/dev.txt pyproject.toml)" ]; }

ensure_git() { command -v git >/dev/null || apt_install git || { say "git is missing: install it first" >&2; exit 1; }; }

ensure_sandbox() { # Docker where its engine answers, else bubblewrap; and the base image for it
    command -v bwrap >/dev/null || apt_install bubblewrap || true
    command -v rg >/dev/null || apt_install ripgrep || true
    say "the base image for sandboxes (made once from this machine's package mirror, kept in the cache)"
    "$venv/bin/agent" sandbox build
    case $target in test*) "$venv/bin/agent" sandbox build --kind bubblewrap ;; esac
    if [ "$target" = test-all ] && [ -n "${CONTAINER_HOST:-}" ]; then "$venv/bin/agent" sandbox build --kind podman; fi
}

ensure_git
if [ ! -x "$venv/bin/pip" ]; then make_venv "$venv"; fi
case $target in
    bot-demo) has_core || step service "$(stamp deploy/requirements.txt pyproject.toml)" install_service ;;
    *) step core "$(stamp requirements/dev.txt pyproject.toml)" install_core ;;
esac
case $target in demo | test-all) step embedded "$(stamp requirements/embedded.txt)" install_embedded ;; esac
case "$target ${2:-}" in
    test-all*)
        scripts/sglang-cpu.sh >/dev/null
        scripts/llama-server.sh >/dev/null
        scripts/vllm-cpu.sh >/dev/null
        scripts/clients.sh >/dev/null
        scripts/swebench.sh >/dev/null
        VENV=$venv scripts/browser.sh >/dev/null || say "tests of pages will be skipped"
        scripts/postgres.sh install >/dev/null || say "tests of jobs on Postgres will be skipped"
        ;;
    *sglang) scripts/sglang-cpu.sh >/dev/null ;;
esac
case $target in bench) step bench "$(stamp requirements/bench.txt)" pip_install "$venv" -r requirements/bench.txt ;; esac
ensure_sandbox
