"""Rust: the distribution's compiler and cargo, the crates of the lock."""

from __future__ import annotations

import re

from sandbox.images.detect.base import PREFIX, Ecosystem, Evidence, Finding, Setup, Step
from sandbox.images.detect.native import COMPILER
from sandbox.images.detect.tree import Tree, table

_SYSTEM_CRATES = {"openssl-sys": "libssl-dev", "libsqlite3-sys": "libsqlite3-dev", "libz-sys": "zlib1g-dev",
                  "pq-sys": "libpq-dev", "curl-sys": "libcurl4-openssl-dev", "libgit2-sys": "libgit2-dev",
                  "zstd-sys": "libzstd-dev", "bzip2-sys": "libbz2-dev", "libsodium-sys": "libsodium-dev",
                  "alsa-sys": "libasound2-dev", "libudev-sys": "libudev-dev"}  # fmt: skip
# cargo reads the manifests of all members and wants the file of each target, whatever is in it.
_FETCH = """for file in $(find . -name Cargo.toml); do
    folder=$(dirname "$file")/src
    mkdir -p "$folder"
    [ -e "$folder/lib.rs" ] || [ -e "$folder/main.rs" ] || : > "$folder/lib.rs"
done
env -u CARGO_NET_OFFLINE cargo fetch"""


def detect(tree: Tree) -> Finding | None:
    if not tree.has("Cargo.toml"):
        return None
    manifests = tree.match("Cargo.toml", "*/Cargo.toml")
    needs = any(_others(tree, name) for name in manifests)
    evidence = [Evidence("Cargo.toml", f"a Rust project, {len(manifests)} manifests", "the distribution's cargo")]
    locked = set(re.findall(r'^name = "([^"]+)"', tree.text("Cargo.lock"), re.MULTILINE))
    libraries = {crate: package for crate, package in _SYSTEM_CRATES.items() if crate in locked}
    evidence += [Evidence("Cargo.lock", crate, f"package {package}") for crate, package in libraries.items()]
    steps = (Step("fetching the crates", _FETCH),) if needs and not tree.has(".cargo/config.toml") else ()
    if steps:
        evidence.append(Evidence("Cargo.toml", "crates of others", "cargo fetch"))
    setup = Setup(
        packages=tuple(sorted({"cargo", "rustc", *COMPILER, *libraries.values()})),
        steps=steps,
        env=(("CARGO_HOME", f"{PREFIX}/cargo"), ("CARGO_NET_OFFLINE", "true")),
        inputs=(*manifests, *tree.existing(("Cargo.lock", "rust-toolchain", "rust-toolchain.toml"))) if steps else (),
        narrow=bool(steps),
    )
    said = re.search(r'^rust-version\s*=\s*"([^"]+)"', tree.text("Cargo.toml"), re.MULTILINE)
    notes = (f"it asks for Rust {said[1]}; the distribution's own is taken",) if said else ()
    workspace = " --workspace" if "[workspace]" in tree.text("Cargo.toml") else ""
    test = f"cargo test --offline{workspace}"
    return Finding(Ecosystem.RUST, tree.count(".rs"), True, tuple(evidence), setup, "", test, notes)


def _others(tree: Tree, manifest: str) -> bool:
    """Whether a manifest names crates that aren't in the repository."""
    content = tree.toml(manifest)
    tables = [content, table(content, "workspace"), *table(content, "target").values()]
    kinds = ("dependencies", "dev-dependencies", "build-dependencies")
    wanted = [item for one in tables for kind in kinds for item in table(one, kind).values()]
    return any(not (isinstance(item, dict) and (item.get("path") or item.get("workspace"))) for item in wanted)
