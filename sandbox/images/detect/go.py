"""Go: the distribution's compiler, the modules that go.sum names."""

from __future__ import annotations

import re

from sandbox.images.detect.base import PREFIX, Ecosystem, Evidence, Finding, Setup, Step
from sandbox.images.detect.native import header_packages, packages_in
from sandbox.images.detect.tree import Tree

_REQUIRE = re.compile(r"^\s*(?:require\s+)?[\w.-]+\.[\w.-]+/\S+\s+v\d", re.MULTILINE)

_LOCAL = (("GOTOOLCHAIN", "local"),)  # newer ones fetch another compiler when they are asked for one


def detect(tree: Tree) -> Finding | None:
    if not (tree.has("go.mod") or tree.has("go.work")):
        return None
    module = tree.first("go.work", "go.mod") or ""
    said = re.search(r"^go\s+(\S+)", tree.text(module), re.MULTILINE)
    version = said[1] if said else "any version"
    evidence = [Evidence(module, f"a Go module ({version})", "the distribution's Go, and gcc for cgo")]
    manifests = tree.match("go.mod", "*/go.mod", "go.sum", "*/go.sum", "go.work", "go.work.sum")
    needs = any(_REQUIRE.search(tree.text(name)) for name in manifests if name.endswith("go.mod"))
    steps: list[Step] = []
    if needs and not tree.has("vendor/modules.txt"):
        evidence.append(Evidence(module, "modules of others", "go mod download"))
        steps.append(Step("downloading the modules", "env -u GOPROXY -u GOFLAGS go mod download"))
    elif needs:
        evidence.append(Evidence("vendor/modules.txt", "modules in the repository", "nothing downloaded"))
    libraries = header_packages(tree, [name for name in tree.match("*.go") if 'import "C"' in tree.text(name)][:500])
    setup = Setup(
        packages=tuple(sorted({"gcc", "golang-go", "libc6-dev", *packages_in(libraries)})),
        steps=tuple(steps),
        env=(("GOMODCACHE", f"{PREFIX}/go/mod"), ("GOPROXY", "off"), ("GOFLAGS", "-buildvcs=false"), *_LOCAL),
        inputs=tuple(manifests) if steps else (),
    )  # fmt: skip
    notes = (f"it asks for Go {version}; the distribution's own is taken",) if said else ()
    return Finding(Ecosystem.GO, tree.count(".go"), True, (*evidence, *libraries), setup, "", "go test ./...", notes)
