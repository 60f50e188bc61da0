#!/usr/bin/env bash
# Set-up for the make targets: scripts/setup.sh demo|test|test-all|bench
#
# Makes .venv with what the target needs, and the sandbox that it runs in. Says what it does, does nothing that is
# done already, and works as root (Debian packages are installed) and without (they are unpacked into a cache).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: scripts/setup.sh demo|test|test-all|bench}
venv=${VENV:-.venv}
say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }

apt_install() { # names; as root only
    [ "$(id -u)" = 0 ] || return 1
    command -v apt-get >/dev/null || return 1
    say "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    dpkg --configure -a >/dev/null 2>&1 || true
    apt-get -o DPkg::Lock::Timeout=600 update -qq >/dev/null
    apt-get -o DPkg::Lock::Timeout=600 install -yqq --no-install-recommends "$@" >/dev/null
}

find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return
        fi
    done
    say "no Python 3.11 or newer on PATH: install it first (Debian: apt-get install python3)" >&2
    exit 1
}

make_venv() {
    [ -x "$venv/bin/pip" ] && return
    local python
    python=$(find_python)
    say "making $venv with $($python --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv" >/dev/null 2>&1 && return
    rm -rf "$venv"
    apt_install python3-venv && "$python" -m venv "$venv" && return
    # Debian's python3 comes without pip, and we are not root: run pip from its wheel, out of a package.
    say "python3-venv is missing: taking pip out of Debian's package into $venv"
    "$python" -m venv --without-pip "$venv"
    local scratch
    scratch=$(mktemp -d)
    (cd "$scratch" && apt-get download -qq python3-pip-whl >/dev/null && dpkg-deb -x ./*.deb .)
    PYTHONPATH=$(ls "$scratch"/usr/share/python-wheels/pip-*.whl) \
        "$venv/bin/python" -m pip install -q --disable-pip-version-check pip
    rm -rf "$scratch"
}

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

pip_install() { "$venv/bin/pip" install -q --disable-pip-version-check --no-warn-script-location "$@" 2> >(grep -v '^WARNING: Location' >&2); }

install_core() {
    say "installing Patchwright with what its tests need"
    pip_install --require-hashes -r requirements/dev.txt
    pip_install --no-deps -e .
}

install_embedded() {
    if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
        say "installing torch for CPU (about 200 MB)"
        # The CPU build, from wherever pip is told to look; else from the project's own index of CPU builds.
        pip_install 'torch==2.13.0+cpu' 2>/dev/null ||
            pip_install 'torch==2.13.0' --index-url https://download.pytorch.org/whl/cpu ||
            { say "no CPU build of torch found: install torch into $venv by hand, then run this again" >&2; exit 1; }
    fi
    say "installing transformers"
    pip_install --no-deps --require-hashes -r requirements/embedded.txt
}

ensure_git() { command -v git >/dev/null || apt_install git || { say "git is missing: install it first" >&2; exit 1; }; }

ensure_sandbox() { # Docker where its engine answers, else bubblewrap; and the base image for it
    command -v bwrap >/dev/null || apt_install bubblewrap || true
    command -v rg >/dev/null || apt_install ripgrep || true
    say "the base image for sandboxes (made once from this machine's package mirror, kept in the cache)"
    "$venv/bin/agent" sandbox build
    case $target in test*) "$venv/bin/agent" sandbox build --kind bubblewrap ;; esac
}

ensure_git
make_venv
step core "$(stamp requirements/dev.txt pyproject.toml)" install_core
case $target in demo | test-all) step embedded "$(stamp requirements/embedded.txt)" install_embedded ;; esac
case $target in bench) step bench "$(stamp requirements/bench.txt)" pip_install -r requirements/bench.txt ;; esac
ensure_sandbox
