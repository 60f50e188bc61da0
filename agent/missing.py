"""What a checkout of a commit will lack: submodules and the content of files in Git LFS, by name.

Read from the commit's objects alone; nothing is fetched. Left out: bringing them. A submodule is another repository,
whose access, revision and trust nobody has said; LFS content lies on a server that wants credentials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.git import git

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_LARGEST = 1024  # bytes of a pointer
_SHOWN = 5  # names in a note
_SUBMODULE = b"160000"


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: bytes
    id: bytes
    size: int  # bytes; -1 for what is no file
    path: bytes


async def missing_notes(bare: Path, tree: str) -> tuple[str, ...]:
    """A line for each kind of thing that is missing; none for a repository that has it all."""
    entries = list(_parsed(await git("ls-tree", "-r", "-z", "--full-tree", tree, at=bare)))
    notes = []
    if modules := [entry.path for entry in entries if entry.mode == _SUBMODULE]:
        notes.append(f"Submodules are not checked out: {_named(modules)}")
    if pointers := await _lfs_pointers(bare, tree, entries):
        notes.append(f"Files in Git LFS are here as pointers, without their content: {_named(pointers)}")
    return tuple(notes)


async def _lfs_pointers(bare: Path, tree: str, entries: Sequence[_Entry]) -> list[bytes]:
    """Paths of the pointers, where a .gitattributes says that there are any."""
    attributes = [entry for entry in entries if entry.path.rpartition(b"/")[2] == b".gitattributes"]
    if not any(b"filter=lfs" in content for content in await _contents(bare, attributes)):
        return []
    sized = _parsed(await git("ls-tree", "-r", "-z", "-l", "--full-tree", tree, at=bare))
    small = [entry for entry in sized if entry.mode.startswith(b"100") and 0 <= entry.size <= _LFS_LARGEST]
    contents = await _contents(bare, small)
    return [entry.path for entry, said in zip(small, contents, strict=True) if said.startswith(_LFS_POINTER)]


def _parsed(listing: bytes) -> Iterator[_Entry]:
    for line in listing.split(b"\0"):
        if line:
            facts, path = line.split(b"\t", 1)
            mode, _, name, *size = facts.split()
            yield _Entry(mode, name, int(size[0]) if size and size[0].isdigit() else -1, path)


async def _contents(bare: Path, entries: Sequence[_Entry]) -> list[bytes]:
    if not entries:
        return []
    asked = b"".join(entry.id + b"\n" for entry in entries)
    answer = await git("cat-file", "--batch", at=bare, stdin=asked)
    found, at = [], 0
    for _ in entries:
        end = answer.index(b"\n", at)
        size = int(answer[at:end].split()[2])
        found.append(answer[end + 1 : end + 1 + size])
        at = end + size + 2
    return found


def _named(paths: Sequence[bytes]) -> str:
    """The first names on one line: a name with a line break in it must not look like a line of ours."""
    shown = b", ".join(paths[:_SHOWN]).decode("utf-8", "replace")
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return "".join(letter if letter.isprintable() else "?" for letter in shown) + more
