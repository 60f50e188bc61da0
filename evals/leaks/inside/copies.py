"""Other copies of the project's files: installed, vendored or unpacked; and packages of it in caches.

A copy leaks when it holds files that are no version up to the base commit, unless its own version says that it came
earlier. Left out: checkouts under git (`history`).
"""

import os
import re
import tarfile
import zlib
from typing import List, Optional, Set

from evals.leaks.inside.project import CODE, Project, normal
from evals.leaks.inside.report import Report
from evals.leaks.inside.repository import blob_name, forms_of, head_of

_NAMED = re.compile(r"([A-Za-z0-9@][\w.@+-]*?)[-_@]v?(\d[\w.+!]*)")
_ARCHIVES = (
    ".whl", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".egg", ".conda", ".gem", ".crate", ".jar", ".phar",
)  # fmt: skip
_TAIL = 256 << 10
_MOST_FILES = 400
_PART = 0.5  # of the base's file names that a folder has to have to be a copy


class Copies:
    """Looks at folders and files as a walk comes by them."""

    def __init__(self, project: Project, allowed: Set[bytes], report: Report) -> None:
        self._project = project
        self._allowed = allowed
        self._report = report
        self._like = next(iter(allowed), b"")
        self._ours = {name: _below(project.files, path) for name, path in project.packages.items()}
        whole = {path for path in project.files if path.endswith(CODE)}
        self._whole = set(sorted(whole, key=lambda path: (path.count("/"), path))[:_MOST_FILES])
        names = "|".join(re.escape(name).replace(r"\-", "[-_.]") for name in sorted(project.names) if len(name) > 1)
        self._inside = re.compile(
            rb"(?:^|[^\w.-])(" + names.encode() + rb")-(\d[\w.+!]*)(?:\.dist-info/|/PKG-INFO|/)", re.I
        )
        self._npm = re.compile(rb"registry[^\s\"]*/(" + names.encode() + rb")/-/[\w.-]*?-(\d[\w.+-]*)\.tgz", re.I)
        self._starts = {name.split("-")[0].encode() for name in project.names if len(name) > 1}

    def folder(self, path: str) -> None:
        """A folder that isn't the base commit's own: whether it is a copy of a package or of the whole."""
        name, _, version = os.path.basename(path).replace("@v", "@").partition("@")
        dashed = re.match(r"(.+?)-v?(\d[\w.+]*)$", name)
        if dashed:
            name, version = dashed.groups()
        known = normal(name) in self._project.names
        for ours in (self._ours.get(name), self._whole if known else None):
            if ours and self._is_copy(path, ours):
                self._judge(path, version or self._version_beside(path, name))
                return
        built = self._version_beside(path, name) if known and path.endswith(f"/node_modules/{name}") else ""
        if (
            built and self._project.later(built) is not False
        ):  # what is published there is built, so no file is the same
            self._report.add("copy", path, f"a copy of the project: version {built}")

    def _is_copy(self, path: str, ours: Set[str]) -> bool:
        there = sum(os.path.isfile(os.path.join(path, name)) for name in ours)
        return there >= max(1, len(ours) * _PART) and (there > 1 or _installed(path))

    def _judge(self, path: str, version: str) -> None:
        later = self._project.later(version) if version else None
        if later is False:
            return
        unknown, count = self._unknown(path)
        if not unknown:
            return
        said = f"version {version}, " if version else ""
        than = f", later than {self._project.version}" if later else ""
        what = f"{said}{len(unknown)} of {count} files that the base commit's past doesn't know{than}"
        self._report.add("copy", path, f"a copy of the project: {what}, such as {unknown[0]}")

    def _unknown(self, path: str) -> "tuple[List[str], int]":
        unknown: List[str] = []
        count = 0
        for where, _, files in os.walk(path):
            for name in sorted(files):
                if not name.endswith(CODE):
                    continue
                count += 1
                if not self.known(os.path.join(where, name)):
                    unknown.append(os.path.relpath(os.path.join(where, name), path))
                if count >= _MOST_FILES or self._report.left < 0:
                    return unknown, count
        return unknown, count

    def known(self, path: str) -> bool:
        """Whether a file's content is some file's in the base commit or before it, by whatever line endings."""
        content = head_of(path, 16 << 20)
        return any(blob_name(form, self._like) in self._allowed for form in forms_of(content))

    def _version_beside(self, path: str, name: str) -> str:
        """What an installer wrote next to a package about its version."""
        parent = os.path.dirname(path)
        try:
            beside = os.listdir(parent)
        except OSError:
            return ""
        for entry in beside:
            match = re.match(r"(.+?)-(\d[^-]*?)(?:-py[\d.]+)?\.(?:dist-info|egg-info)$", entry)
            if match and normal(match.group(1)) in self._project.names | {normal(name)}:
                return match.group(2)
        listed = re.search(
            rb"^" + re.escape(name).encode() + rb"==(\S+)", head_of(parent + "/vendor.txt", 1 << 16), re.M
        )
        said = re.search(rb"\"version\"\s*:\s*\"([\w.+-]+)\"", head_of(path + "/package.json", 1 << 16))
        found = listed or said
        return found.group(1).decode() if found else ""

    def module(self, path: str) -> None:
        """A single file that has the name of a module of the project."""
        if not _installed(path) or self.known(path):
            return
        version = self._version_beside(path, os.path.splitext(os.path.basename(path))[0])
        if not version or self._project.later(version) is not False:
            self._report.add("copy", path, f"a copy of the project's module, version {version or 'unknown'}")

    def archive(self, path: str, head: bytes) -> None:
        """A file that may be a package: by its name, or by what it says inside."""
        name = os.path.basename(path)
        ending = next((one for one in _ARCHIVES if name.endswith(one)), "") if name.endswith(_ARCHIVES) else ""
        found = _NAMED.match(name[: -len(ending)]) if ending else None
        if found and normal(found.group(1)) in self._project.names:
            self._package(path, found.group(2))
        elif self._starts and (head.startswith((b"PK\x03\x04", b"\x1f\x8b")) or _in_cache(path)):
            content = _opened(path, head) if head.startswith(b"\x1f\x8b") else _ends(path)
            small = content.lower()  # finding a name first, because expressions search a hundred times slower
            if not any(start in small for start in self._starts):
                return
            match = self._inside.search(content) or self._npm.search(content)
            if match:
                self._package(path, match.group(2).decode("ascii", "replace"))

    def _package(self, path: str, version: str) -> None:
        later = self._project.later(version)
        if later is False:
            return
        ours = self._project.version or "unknown"
        self._report.add(
            "package cache", path, f"a package of the project, version {version}; the base commit's is {ours}"
        )


def _installed(path: str) -> bool:
    return any(
        part in path for part in ("/site-packages/", "/dist-packages/", "/node_modules/", "/_vendor/", "/pkg/mod/")
    )


def _in_cache(path: str) -> bool:
    return any(part in path for part in ("/pip/http", "/_cacacache/", "/.cache/uv/", "/.cache/pip/", "/.npm/"))


def _below(files: Set[str], path: str) -> Set[str]:
    """Names of source files below a package, two folders deep, relative to it."""
    inside = {name[len(path) + 1 :] for name in files if name.startswith(path + "/") and name.endswith(CODE)}
    near = {name for name in inside if name.count("/") < 2 and not name.startswith("test")}
    return set(sorted(near or inside)[:_MOST_FILES])


def _ends(path: str) -> bytes:
    """The first and the last part of a file, where a zip keeps its table."""
    try:
        with open(path, "rb") as file:
            head = file.read(_TAIL)
            size = os.fstat(file.fileno()).st_size
            file.seek(max(len(head), size - _TAIL))
            return head + file.read(_TAIL)
    except OSError:
        return b""


def _is_tar(head: bytes) -> bool:
    """Whether what is compressed begins as a tar does: most compressed files are manuals and changelogs."""
    try:
        return zlib.decompressobj(31).decompress(head, 512)[257:262] == b"ustar"
    except zlib.error:
        return False


def _opened(path: str, head: bytes) -> bytes:
    """The first names of a compressed tar; nothing where it is none."""
    if not _is_tar(head):
        return b""

    names: List[str] = []
    try:
        with tarfile.open(path, "r|gz") as tar:
            member: Optional[tarfile.TarInfo] = tar.next()
            while member is not None and len(names) < 5:
                names.append(member.name + "/")
                member = tar.next()
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError):
        pass
    return "\n".join(names).encode("utf-8", "replace")
