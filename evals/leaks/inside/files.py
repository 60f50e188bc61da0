"""A walk over the files that an agent can read: checkouts, bundles, patches, copies, packages, gold.

Links are not followed, and a folder is seen once. A file costs a look only where its name leaves open what it is.
Left out: what lies in git's own object folders (`history`), and folders of the distribution that hold no such thing.
"""

import os
import re
import stat
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from evals.leaks.inside.copies import Copies
from evals.leaks.inside.lines import Lines
from evals.leaks.inside.project import Project
from evals.leaks.inside.report import Report
from evals.leaks.inside.repository import git_folder

NOT_FILES = ("/proc", "/sys", "/dev")
SYSTEM = frozenset(
    "/usr/share/" + name
    for name in ("locale", "man", "info", "zoneinfo", "terminfo", "icons", "fonts", "i18n", "X11", "mime", "keyrings")
) | {"/usr/lib/locale", "/usr/lib/firmware", "/usr/lib/modules", "/lib/modules", "/var/lib/dpkg/info"}
"""Folders that packages of the distribution fill with one kind of thing."""
_COMPILED = (
    ".pyc .pyo .so .a .o .la .lo .ko .dll .dylib .exe .class .wasm .mo .gmo .png .gif .jpg .jpeg .ico .bmp .webp "
    ".ttf .otf .woff .woff2 .eot .pcf .mp3 .mp4 .ogg .wav .pdf .ps .npy .npz .elc .beam .hi .rlib .rmeta .pak "
    ".bc .debug .jmod"
)
COMPILED = frozenset(_COMPILED.split())
"""Endings of what is neither text nor a package: never opened outside of the work folder."""
_TEXT = (
    ".py .pyi .pyx .pxd .js .mjs .cjs .ts .tsx .jsx .map .css .scss .html .htm .svg .rst .md .h .hh .hpp .hxx .c .cc "
    ".cpp .cxx .f .f90 .go .rs .rb .java .kt .scala .cs .swift .php .pl .pm .pod .t .tcl .lua .r .jl .el .sh .m4 "
    ".cmake .pc .xml .xsd .dtd .po .pot .tex .bib .ini .cfg .toml .conf .service .gir .vala "
    ".vim .inl .cuh .tcc .ph .td .lang"
)
TEXT = frozenset(_TEXT.split())
"""Endings of texts that are no patch, bundle, package or table: opened outside of the work folder for gold alone, where
the solution's own files have the same ending."""
_REST = (".orig", ".rej")
_PATCHES = (".patch", ".diff")
_TABLES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".yaml", ".yml", ".pkl", ".txt", ".ndjson")
_GOLD_FIELDS = (b"FAIL_TO_PASS", b"fail_to_pass"), (b"test_patch", b"golden_patch", b"gold_patch")
_TOUCHED = re.compile(rb"^(?:\+\+\+|---|rename (?:from|to)|diff --git) (?:[ab]/)?([^\t\n ]+)", re.MULTILINE)
_HEAD = 4096  # bytes: enough to tell a bundle, a pack, an archive, a patch, and text from what is none
_MOST_OF_A_FILE = 8 << 20
_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock")


class Files:
    """One walk. `own` are the paths of the base commit whose files are as they were there."""

    def __init__(
        self, project: Project, copies: Copies, lines: Lines, report: Report, own: Set[str], settings: Dict[str, Any]
    ) -> None:
        self._project = project
        self._copies = copies
        self._lines = lines
        self._report = report
        self._own = own
        self._files: int = settings["files"]
        self._content: int = settings["content"]
        self._endings = set(settings["endings"]) if lines else set()
        self._seen: Set[Tuple[int, int]] = set()
        self._parents = {tuple(path.split("/")[-2:]) for path in project.files}
        self._modules = {os.path.basename(module) for module in project.modules}
        self._packages = set(project.packages.values())
        self.checkouts: List[str] = []

    def learn(self, workdir: str) -> None:
        """What the base commit's files hold is no gold."""
        for path in sorted(self._own):
            if self._lines and self._report.left > 0:
                self._lines.known(_read(os.path.join(workdir, path), _MOST_OF_A_FILE))

    def walk(self, roots: List[str]) -> None:
        for root in roots:
            for where, entries in self._folders(os.path.realpath(root)):
                if self._report.left < 0:
                    self._report.add("not looked at", root, f"the time was over at {where}")
                    return
                if self._report.count("files", len(entries)) > self._files:
                    self._report.add(
                        "not looked at", root, f"there are more than {self._files} files; ended at {where}"
                    )
                    return
                self._of_folder(where, entries)

    def _folders(self, root: str) -> Iterator[Tuple[str, List["os.DirEntry[str]"]]]:
        """Each folder with what is in it besides folders, sorted."""
        waiting = [root]
        while waiting:
            where = waiting.pop()
            try:
                found = os.stat(where)
                if where in NOT_FILES or where in SYSTEM or (found.st_dev, found.st_ino) in self._seen:
                    continue
                self._seen.add((found.st_dev, found.st_ino))
                with os.scandir(where) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError:  # the agent can't read it either
                continue
            folders: List["os.DirEntry[str]"] = []
            others: List["os.DirEntry[str]"] = []
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry)
            inside_git = {"HEAD", "objects", "refs"} <= {entry.name for entry in entries}
            if inside_git:
                self.checkouts.append(where)
            elif where != self._project.workdir and self._inside(where) not in self._packages:
                self._copies.folder(where)
            waiting += [entry.path for entry in reversed(folders) if not (inside_git and entry.name == "objects")]
            yield where, others

    def _inside(self, path: str) -> Optional[str]:
        """A path relative to the work folder; None for what lies elsewhere."""
        workdir = self._project.workdir
        if path == workdir:
            return ""
        return path[len(workdir) + 1 :] if path.startswith(workdir + "/") else None

    def _of_folder(self, where: str, entries: List["os.DirEntry[str]"]) -> None:
        """The files of one folder. By far the most are told by their names, which costs no look at the file."""
        inside = self._inside(where)
        for entry in entries:
            name = entry.name
            if inside is None:
                ending = os.path.splitext(name)[1].lower()
                known = ending in COMPILED or ".so." in name or (ending in TEXT and ending not in self._endings)
                if known and name not in self._modules:
                    continue
            elif (f"{inside}/{name}" if inside else name) in self._own:
                continue
            self._entry(entry, inside is not None)

    def _entry(self, entry: "os.DirEntry[str]", inside: bool) -> None:
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return
        if stat.S_ISSOCK(found.st_mode) and entry.name in _SOCKETS and os.access(entry.path, os.W_OK):
            self._report.add("network", entry.path, "a container engine's socket")
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return
        if entry.name == ".git":
            folder = git_folder(entry.path)
            if folder:
                self.checkouts.append(folder)
            return
        self._file(entry.path, entry.name, inside, found.st_size)

    def _file(self, path: str, name: str, inside: bool, size: int) -> None:
        head = _read(path, _HEAD)
        if re.match(rb"# v\d git bundle\n", head):
            self._report.add("bundle", path, "a git bundle")
        elif head.startswith(b"PACK\0\0\0"):
            self._report.add("stray pack", path, "a git pack outside of a repository")
        self._copies.archive(path, head)
        if name in self._modules:
            self._copies.module(path)
        patch = head.startswith((b"diff --git ", b"From ", b"Index: ")) or name.endswith((*_PATCHES, *_REST))
        if patch and "/.git/" not in path:
            self._patch(path, name, inside)
        if name.endswith(_TABLES):
            self._table(path, size)
        if self._lines and b"\0" not in head and size >= self._lines.shortest:
            self._gold(path, size)

    def _patch(self, path: str, name: str, inside: bool) -> None:
        """In the work folder each is one too many; elsewhere those that touch files of the base commit."""
        if inside and name.endswith((*_PATCHES, *_REST)):
            self._report.add("patch file", path, "not a file of the base commit")
            return
        if name.endswith(_REST):
            if (os.path.basename(os.path.dirname(path)), name.rpartition(".")[0]) in self._parents:
                self._report.add("patch file", path, "left by a patch of a file that the base commit has")
            return
        touched = {match.decode("utf-8", "replace") for match in _TOUCHED.findall(_read(path, 1 << 20))}
        ours = sorted(touched & self._project.files)
        if ours and len(ours) * 2 >= len(touched):
            self._report.add("patch file", path, f"a patch of {ours[0]}")

    def _table(self, path: str, size: int) -> None:
        content = _read(path, 1 << 20)
        if size > len(content):
            content += _last(path, 1 << 18)
        if all(any(name in content for name in names) for names in _GOLD_FIELDS):
            self._report.add("gold fields", path, "a data set's row with its tests and patches")

    def _gold(self, path: str, size: int) -> None:
        if size > _MOST_OF_A_FILE:
            self._report.count("large files that weren't searched for gold")
            return
        if self._content < size:
            self._report.add("not looked at", path, "no more content is searched for gold from here on")
            self._lines.wanted.clear()
            return
        content = _read(path, _MOST_OF_A_FILE)
        self._content -= size
        found = self._lines.found(content)
        if self._lines.enough(found):
            self._report.add("gold text", path, f"{len(found)} lines of the gold fields")


def _read(path: str, most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


def _last(path: str, most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(-most, os.SEEK_END)
            return file.read(most)
    except OSError:
        return b""
