"""Picks from a base image's tar what the guest's own interpreter needs, as a folder that runs anywhere.

Python and git with their shared libraries and the dynamic loader that starts both. The library comes compiled and
without its sources: nothing has to be compared with a source's time, and a start reads half as much. Left out: parts
of the library that need more shared libraries than the C library's own or that no guest can have a use for, and
everything about where the folder is kept and shown (`sandbox.guest_python`).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from sandbox.base import ImageProblem

LOADER, PYTHON, GIT, LIBRARIES = "ld.so", "bin/python3", "bin/git", "lib"

_WANTED = ("usr/bin/python3*", "usr/bin/git", "usr/lib/python3.*", "usr/lib/*-linux-gnu*/lib*.so*",
           "usr/lib/*-linux-gnu*/ld-*")  # fmt: skip
_FOLDERS_LEFT_OUT = frozenset(
    {
        "__phello__", "__pycache__", "asyncio", "concurrent", "curses", "dbm", "dist-packages", "distutils", "email",
        "ensurepip", "html", "http", "idlelib", "lib-dynload", "lib2to3", "multiprocessing", "pydoc_data",
        "site-packages", "sqlite3", "test", "tests", "tkinter", "turtledemo", "unittest", "venv", "wsgiref", "xml",
        "xmlrpc",
    }
)  # fmt: skip
_FOR_TESTS = re.compile(r"_?(test|xx|codecs_|ctypes_test)")
_C_LIBRARY = re.compile(r"lib(c|m|dl|rt|util|pthread)\.so\.|ld-")
_MACHINES = {62: "x86_64", 183: "aarch64", 243: "riscv64"}
_SAME_MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}
_HINT = "check the free space of the cache folder (PATCHWRIGHT_CACHE moves it); then run it again."


def make(tar: Path, scratch: Path) -> Path:
    """The folder, made below `scratch` from a base image's tar. Raises ImageProblem."""
    from sandbox.images.progress import run_tool

    tree, made = scratch / "tree", scratch / "made"
    tree.mkdir()
    unpack = ["tar", "-xf", str(tar), "--no-same-owner", "-C", str(tree), "--wildcards"]
    run_tool([*unpack, *(f"./{name}" for name in _WANTED)], what="unpacking the interpreter", hint=_HINT)
    library = next((path for path in sorted(tree.glob("usr/lib/python3.*")) if path.is_dir()), None)
    program = tree / "usr/bin/python3"
    if library is None or not program.exists():
        raise ImageProblem(f"{tar} holds no Python.\nTry: `agent sandbox build --force`.")
    programs = {PYTHON: program, GIT: tree / "usr/bin/git"}
    for name, source in programs.items():
        _copy(source, made / name, 0o755)
    extensions = [path for path in sorted(library.glob("lib-dynload/*.so")) if _is_wanted(path)]
    target = made / LIBRARIES / library.name
    for path in extensions:
        _copy(path, target / "lib-dynload" / path.name, 0o644)
    _copy_library(library, target)
    _copy_shared(tree, made, [*programs.values(), *extensions])
    return made


def digest(folder: Path) -> str:
    """Twelve hex digits that name what is in a folder: names, modes and bytes."""
    whole = hashlib.sha256()
    for path in files(folder):
        data = path.read_bytes()
        whole.update(f"{path.relative_to(folder)}\0{path.stat().st_mode & 0o777:o}\0{len(data)}\0".encode() + data)
    return whole.hexdigest()[:12]


def files(folder: Path) -> Iterator[Path]:
    """Its files in an order that is always the same, the loader last: without it nothing of the rest can start."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    yield from (path for path in found if path != folder / LOADER)
    yield folder / LOADER


def machine_of(program: Path) -> str:
    """The processor that a program is for, as `uname -m` says it; `?` for one that we don't know."""
    with program.open("rb") as file:
        header = file.read(20)
    return _MACHINES.get(struct.unpack_from("<H", header, 18)[0], "?")


def same_machine(one: str, other: str) -> bool:
    """Whether two names mean the same processor; engines use more than one."""
    return _SAME_MACHINE.get(one, one) == _SAME_MACHINE.get(other, other)


def _is_wanted(extension: Path) -> bool:
    name = extension.name.partition(".")[0]
    if _FOR_TESTS.match(name):
        return False
    return name == "_ctypes" or all(_C_LIBRARY.match(needed) for needed in linked(extension)[1])


def _copy_library(library: Path, target: Path) -> None:
    for folder, folders, names in os.walk(library):
        folders[:] = sorted(name for name in folders if name not in _FOLDERS_LEFT_OUT and "config-" not in name)
        inside = target / Path(folder).relative_to(library)
        for name in sorted(names):
            source = Path(folder, name)
            if source.suffix != ".py" or source.is_symlink():
                continue
            compiled = next(source.parent.glob(f"__pycache__/{source.stem}.cpython-3*[0-9].pyc"), None)
            _copy(compiled or source, inside / (f"{name}c" if compiled else name), 0o644)


def _copy_shared(tree: Path, made: Path, programs: Iterable[Path]) -> None:
    """The loader that the programs name and, beside each other, all libraries that they need."""
    waiting, done = list(programs), set[str]()
    while waiting:
        loader, names = linked(waiting.pop())
        if loader and not (made / LOADER).exists():
            _copy(_library(tree, Path(loader).name), made / LOADER, 0o755)
        for name in names:
            if name in done or name.startswith("ld-"):
                continue
            done.add(name)
            found = _library(tree, name)
            _copy(found, made / LIBRARIES / name, 0o644)
            waiting.append(found)
    if not (made / LOADER).exists():
        raise ImageProblem("the base image's Python names no dynamic loader.\nTry: `agent sandbox build --force`.")


def _library(tree: Path, name: str) -> Path:
    for path in sorted(tree.glob(f"usr/lib/*-linux-gnu*/{name}")):
        if path.exists():  # a link that leads out of the folder does not
            return path
    raise ImageProblem(f"the base image lacks {name}, which its Python needs.\nTry: `agent sandbox build --force`.")


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def linked(program: Path) -> tuple[str, list[str]]:
    """The dynamic loader ("" for a library) and the shared libraries that an ELF file names."""
    data = program.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ImageProblem(f"{program.name} is no program for a 64-bit little-endian processor, which is all we know.")
    (offset,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + index * size) for index in range(count)]
    mapped = [(address, length, where) for kind, _, where, address, _, length in headers if kind == 1]
    loader, entries = "", list[tuple[int, int]]()
    for kind, _, where, _, _, length in headers:
        if kind == 3:
            loader = data[where : where + length].rstrip(b"\0").decode()
        elif kind == 2:
            entries = list(struct.iter_unpack("<qQ", data[where : where + length]))
    names = [value for tag, value in entries if tag == 1]
    strings = next((value for tag, value in entries if tag == 5), 0)
    start = next((where + strings - address for address, length, where in mapped if 0 <= strings - address < length), 0)
    return loader, [data[start + name : data.index(b"\0", start + name)].decode() for name in names]
