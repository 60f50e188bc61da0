# What the set-up scripts share; sourced by them. They set `say_as`, the name that lines of progress begin with.

say() { printf '\033[1m[%s]\033[0m %s\n' "$say_as" "$*" >&2; }
die() { say "$*"; exit 1; }

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
    die "no Python 3.11 or newer on PATH: install it first (Debian: apt-get install python3)"
}

make_venv() { # folder
    local python scratch
    python=$(find_python)
    say "making $1 with $($python --version)"
    rm -rf "$1"
    "$python" -m venv "$1" >/dev/null 2>&1 && return
    rm -rf "$1"
    apt_install python3-venv && "$python" -m venv "$1" && return
    # Debian's python3 comes without pip, and we are not root: run pip from its wheel, out of a package.
    say "python3-venv is missing: taking pip out of Debian's package into $1"
    "$python" -m venv --without-pip "$1"
    scratch=$(mktemp -d)
    (cd "$scratch" && apt-get download -qq python3-pip-whl >/dev/null && dpkg-deb -x ./*.deb .)
    PYTHONPATH=$(ls "$scratch"/usr/share/python-wheels/pip-*.whl) \
        "$1/bin/python" -m pip install -q --disable-pip-version-check pip
    rm -rf "$scratch"
}

pip_install() { # venv, what pip takes
    "$1/bin/pip" install -q --disable-pip-version-check --no-warn-script-location "${@:2}" \
        2> >(grep -v '^WARNING: Location' >&2)
}

install_torch() { # venv, options: the CPU build, from wherever pip is told to look; else from the project's own index
    say "installing torch for CPU (about 200 MB)"
    pip_install "$1" "${@:2}" 'torch==2.13.0+cpu' 2>/dev/null ||
        pip_install "$1" "${@:2}" 'torch==2.13.0' --index-url https://download.pytorch.org/whl/cpu ||
        die "no CPU build of torch found: install torch into $1 by hand, then run this again"
}
