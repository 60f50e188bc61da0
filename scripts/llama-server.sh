#!/usr/bin/env bash
# A llama.cpp server for the tests, built from the sources inside llama-cpp-python's source distribution.
#
#   scripts/llama-server.sh          build it if it isn't there (minutes on two cores); prints the server's path
#   scripts/llama-server.sh path     only say where it would be; exit code 3 when it isn't there
#
# It lands in Patchwright's cache under a name that holds the hash of the sources, of the build and of the CPU's
# abilities, with `gguf-py` beside it. No GPU back end, no TLS, no web page; compiled with little optimisation, because the models
# of the tests are tiny. Needs a C++ compiler; cmake and ninja come from PyPI where they aren't on PATH.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say_as=llama-server
version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
. "$root/scripts/common.sh"

fetch() { # the source distribution, checked against its hash
    local pip=${VENV:-$root/.venv}/bin/pip
    [ -x "$pip" ] || pip="python3 -m pip"
    say "fetching the sources: llama-cpp-python $version (77 MB)"
    echo "llama-cpp-python==$version --hash=sha256:$sha256" >"$work/sources.txt"
    $pip download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python --require-hashes \
        -d "$work" -r "$work/sources.txt" >"$work/log" 2>&1 || failed "the download"
    mkdir "$work/source"
    tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work/source" --strip-components=3 \
        "llama_cpp_python-$version/vendor/llama.cpp"
}

tools() { # cmake and ninja: those on PATH, else from PyPI into the build's own folder
    command -v c++ >/dev/null || apt_install g++ || die "no C++ compiler on PATH: install one (Debian: apt-get install g++)."
    command -v cmake >/dev/null && command -v ninja >/dev/null && return
    say "fetching cmake and ninja"
    python3 -m venv "$work/tools" && "$work/tools/bin/pip" install -q --disable-pip-version-check cmake ninja \
        >"$work/log" 2>&1 || failed "fetching cmake and ninja"
    PATH=$work/tools/bin:$PATH
}

build() {
    local optimise="-O1 -DNDEBUG"
    cmake -G Ninja -S "$work/source" -B "$work/build" -DCMAKE_BUILD_TYPE=Release \
        "-DCMAKE_C_FLAGS_RELEASE=$optimise" "-DCMAKE_CXX_FLAGS_RELEASE=$optimise" -DGGML_NATIVE=ON \
        -DGGML_CCACHE=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF -DBUILD_SHARED_LIBS=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF \
        -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_ALL_WARNINGS=OFF -DGGML_ALL_WARNINGS=OFF \
        -DLLAMA_BUILD_NUMBER=1 -DLLAMA_BUILD_COMMIT="llama-cpp-python-$version" >"$work/log" 2>&1 || failed "cmake"
    say "compiling (about $(ninja -C "$work/build" -t commands llama-server 2>/dev/null | wc -l) files)"
    NINJA_STATUS='%p ' ninja -C "$work/build" -j "$(nproc)" llama-server 2>&1 | tee "$work/log" |
        progress || failed "the compilation"
}

progress() { # of ninja's lines, one for each tenth
    local percent next=0
    while read -r percent _; do
        percent=${percent%\%}
        [[ $percent =~ ^[0-9]+$ ]] || continue
        if [ "$percent" -ge "$next" ]; then
            say "compiled: $percent %"
            next=$((percent / 10 * 10 + 10))
        fi
    done
}

failed() { tail -n 25 "$work/log" >&2; die "$1 failed; the lines above are the end of its output."; }

cache=${PATCHWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/patchwright}
hash=$({ echo "$sha256"; declare -f build; grep -m1 '^flags' /proc/cpuinfo || uname -m; } | sha256sum | cut -c1-12)
target=$cache/llama-server-$hash
case ${1:-build} in
    path)
        echo "$target/llama-server"
        [ -x "$target/llama-server" ] || exit 3
        exit
        ;;
    build) ;;
    *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

mkdir -p "$cache"
exec 9>"$target.lock"
flock -n 9 || { say "another build is going on; waiting for it"; flock 9; }
if [ ! -x "$target/llama-server" ]; then
    started=$(date +%s)
    work=$target.building
    rm -rf "$work" "$target"
    mkdir "$work"
    fetch
    tools
    build
    mkdir "$work/done"
    strip -o "$work/done/llama-server" "$work/build/bin/llama-server"
    cp -r "$work/source/gguf-py" "$work/done/"
    mv "$work/done" "$target"
    rm -rf "$work"
    say "built in $(($(date +%s) - started)) s"
fi
echo "$target/llama-server"
