"""Write dpkg's own records for packages that were only unpacked, so that apt can install more on top of them.

Knows the few files that dpkg reads; runs no maintainer script.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

_ALTERNATIVE = re.compile(
    r"update-alternatives\s+(?:--quiet\s+)?--install\s+(/\S+)\s+(\S+)\s+(/\S+)\s+(\d+)((?:\s+--slave(?:[ \t]+\S+){3})*)"
)
_ASSIGNED = re.compile(r"^\s*(\w+)=[\"']?([\w./+-]+)[\"']?\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One program among several of a name. `slaves` are (link, name, path) of what is switched with it."""

    link: str
    name: str
    path: str
    rank: str
    slaves: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Package:
    """One .deb: its control fields as text, its control files, and the paths that it was unpacked to."""

    control: str
    files: dict[str, bytes]
    paths: tuple[str, ...]

    def field(self, name: str) -> str:
        match = re.search(rf"^{name}:[ \t]*(.*)$", self.control, re.MULTILINE)
        return match[1] if match else ""

    @property
    def key(self) -> str:
        """The name of its files below /var/lib/dpkg/info."""
        if self.field("Multi-Arch") == "same":
            return f"{self.field('Package')}:{self.field('Architecture')}"
        return self.field("Package")

    @property
    def alternatives(self) -> list[Alternative]:
        """What its installation would offer. Variables of the script are known where a plain value is assigned."""
        script = self.files.get("postinst", b"").decode(errors="replace").replace("\\\n", " ")
        for name, value in dict(_ASSIGNED.findall(script)).items():
            script = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", value, script)
        found = []
        for link, name, path, rank, slaves in _ALTERNATIVE.findall(script):
            words = slaves.split()
            linked = [(words[at + 1], words[at + 2], words[at + 3]) for at in range(0, len(words), 4)]
            if "$" not in link + name + path + slaves:
                found.append(Alternative(link, name, path, rank, tuple(linked)))
        return found


def read_package(deb: Path, paths: tuple[str, ...]) -> Package:
    """Read a .deb's control part; `paths` are the absolute paths that its files went to."""
    raw = subprocess.run(["dpkg-deb", "--ctrl-tarfile", str(deb)], check=True, capture_output=True).stdout
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                files[member.name.removeprefix("./")] = content.read()
    return Package(files.pop("control").decode(), files, paths)


def write_database(tree: Path, packages: list[Package]) -> None:
    """Record the packages as installed in the tree."""
    root = tree / "var/lib/dpkg"
    for folder in ("info", "updates", "triggers", "alternatives", "parts"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("available", "diversions", "statoverride", "lock", "triggers/Lock", "triggers/Unincorp"):
        (root / name).touch()
    (root / "info/format").write_text("1\n", encoding="utf-8")
    for package in packages:
        for name, content in package.files.items():
            target = root / "info" / f"{package.key}.{name}"
            target.write_bytes(content)
            target.chmod(0o755 if content.startswith(b"#!") else 0o644)
        listing = "".join(f"{path}\n" for path in ("/.", *package.paths))
        (root / "info" / f"{package.key}.list").write_text(listing, encoding="utf-8")
    (root / "status").write_text("".join(_status(tree, package) for package in packages), encoding="utf-8")
    _write_triggers(root / "triggers", packages)


def _status(tree: Path, package: Package) -> str:
    first, _, rest = package.control.strip().partition("\n")
    entry = f"{first}\nStatus: install ok installed\n{rest}\n"
    conffiles = package.files.get("conffiles", b"").decode().split("\n")
    lines = [f" {path} {_md5(tree, path)}\n" for path in conffiles if path.startswith("/")]
    return entry + ("Conffiles:\n" + "".join(lines) if lines else "") + "\n"


def _md5(tree: Path, path: str) -> str:
    file = tree / path.lstrip("/")
    content = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _write_triggers(folder: Path, packages: list[Package]) -> None:
    """Which package wants to be told of what: named triggers have a file each, paths share one."""
    paths: list[str] = []
    for package in packages:
        for line in package.files.get("triggers", b"").decode().splitlines():
            words = line.partition("#")[0].split()
            if len(words) != 2 or not words[0].startswith("interest"):
                continue
            listener = package.key + ("/noawait" if words[0].endswith("noawait") else "")
            if words[1].startswith("/"):
                paths.append(f"{words[1]} {listener}\n")
            else:
                with (folder / words[1]).open("a", encoding="utf-8") as file:
                    file.write(f"{listener}\n")
    (folder / "File").write_text("".join(paths), encoding="utf-8")
