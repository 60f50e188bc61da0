"""C and C++: CMake, Meson, autotools or make, built beside the sources, with the libraries that the sources use."""

from __future__ import annotations

import re

from sandbox.images.detect.base import Ecosystem, Evidence, Finding, Setup
from sandbox.images.detect.native import C_SUFFIXES, COMPILER, header_packages, library_packages, packages_in
from sandbox.images.detect.tree import Tree

BUILD = "/tmp/patchwright-build"  # noqa: S108  (in the sandbox)
_GENERATORS = {"flex": "flex", "bison": "bison", "yacc": "bison", "swig": "swig", "gperf": "gperf", "re2c": "re2c"}


def detect(tree: Tree) -> Finding | None:
    weight = tree.count(*C_SUFFIXES)
    found = _system(tree)
    if found is None or not weight:
        return None
    file, tools, build, test, strong = found
    evidence = [Evidence(file, "the build system", f"{', '.join(tools) or 'make'} and gcc")]
    names = tree.match("CMakeLists.txt", "*/CMakeLists.txt", "*.cmake", "*meson.build", "configure.ac", "*akefile*")
    libraries = {*header_packages(tree, tree.match(*(f"*{suffix}" for suffix in C_SUFFIXES)))}
    libraries |= {*library_packages(tree, names[:500])}
    known = {line.chosen: line for line in sorted(libraries, key=lambda line: (line.chosen, line.file))}
    text = "\n".join(tree.text(name) for name in names[:200]).lower()
    generators = sorted({package for word, package in _GENERATORS.items() if re.search(rf"\b{word}\b", text)})
    evidence += [Evidence(file, f"calls {name}", f"package {name}") for name in generators]
    packages = {*COMPILER, *tools, *generators, *packages_in(known.values())}
    return Finding(
        Ecosystem.CPP,
        weight,
        strong,
        (*evidence, *known.values()),
        Setup(packages=tuple(sorted(packages))),
        build,
        test,
    )


def _system(tree: Tree) -> tuple[str, tuple[str, ...], str, str, bool] | None:
    """(the file that says so, more packages, how to build, how to test, whether it is surely C or C++)."""
    jobs = "$(nproc)"
    if tree.has("CMakeLists.txt"):
        build = f"cmake -S . -B {BUILD} -DBUILD_TESTING=ON > /dev/null && cmake --build {BUILD} -j {jobs}"
        return "CMakeLists.txt", ("cmake",), build, f"ctest --test-dir {BUILD} --output-on-failure", True
    if tree.has("meson.build"):
        build = f"{{ [ -d {BUILD} ] || meson setup {BUILD} . ; }} && meson compile -C {BUILD}"
        return "meson.build", ("meson", "ninja-build"), build, f"meson test -C {BUILD} --print-errorlogs", True
    if file := tree.first("configure.ac", "configure.in", "configure"):
        script = tree.has("configure")
        tools = () if script else ("autoconf", "automake", "gettext", "libtool")
        generate = "" if script else "autoreconf --install --force && "
        build = f"{generate}{{ [ -f Makefile ] || sh ./configure > /dev/null ; }} && make -j {jobs}"
        return file, tools, build, "make check", True
    if file := tree.first("Makefile", "makefile", "GNUmakefile"):
        targets = re.findall(r"^([\w.-]+)\s*:(?!=)", tree.text(file), re.MULTILINE)
        test = next((f"make {name}" for name in ("test", "check", "tests") if name in targets), "")
        return file, (), f"make -j {jobs}", test, False
    return None
