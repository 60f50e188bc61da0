"""The base commit of a run, in a bare repository of the run's own, and the scrubbed repository that a sandbox gets.

What the model can see is the base commit and `HISTORY_DEPTH` commits before it: no later commit, no other
branch, tag, remote, reflog or credential. The host never checks anything out: the sandbox gets a `.git` folder
and checks out by itself. The bare repository also takes in the tree objects of the run's checkpoints.

Left out: submodules and LFS objects: what of them is missing is in `Base.notes` (`agent.missing`).
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from agent.ends import InputProblem
from agent.git import Bounds, GitError, git, git_line, object_format
from agent.missing import missing_notes
from sandbox.scratch import scratch

HISTORY_DEPTH = 50
BASE_REF = "refs/heads/main"
LARGE_TEXT = 16 << 20  # bytes; beyond it git may not compare lines: that takes twenty times as much memory, or more
PACK_BOUNDS = Bounds()  # a pack of some bytes may say that it unpacks to any size
_SUBMODULE = b"160000"
# The side of a fetch that reads the user's repository: it runs no program and reaches no other repository.
_ANY_COMMIT = (
    "GIT_ALLOW_PROTOCOL=none GIT_NO_LAZY_FETCH=1 git -c core.hooksPath=/dev/null -c core.fsmonitor=false "
    "-c uploadpack.allowAnySHA1InWant=true -c safe.directory=* upload-pack"
)
_OTHER_FORMAT = "mismatched algorithms"
_SETTINGS = {
    "core.bare": "false",
    "core.logAllRefUpdates": "false",
    "user.name": "Patchwright",
    "user.email": "patchwright@localhost",
}


@dataclass(frozen=True, slots=True)
class Base:
    """Where a run starts from."""

    commit: str
    tree: str
    notes: tuple[str, ...] = ()


async def local_commit(repository: Path, revision: str, *, allow_dirty: bool) -> str:
    """The commit that a revision of the user's repository names. Reads only.

    Raises InputProblem for a folder that is no repository, an unknown revision, or a dirty work tree.
    """
    try:
        commit = await git_line(
            "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", at=repository, foreign=True
        )
    except GitError as error:
        raise InputProblem(await _why_no_commit(repository, revision, error)) from None
    bare = await git_line("rev-parse", "--is-bare-repository", at=repository, foreign=True) == "true"
    if not (allow_dirty or bare) and (changed := await _tracked_changes(repository)):
        raise InputProblem(
            f"{repository} has uncommitted changes ({changed}): commit or stash them, "
            "or pass --allow-dirty to start from the last commit without them"
        )
    return commit


async def _why_no_commit(repository: Path, revision: str, error: GitError) -> str:
    try:
        await git("rev-parse", "--git-dir", at=repository, foreign=True)
    except GitError:
        return f"{repository} is not a git repository: run `git init`, add the files and commit them first"
    if revision == "HEAD":
        return f"{repository} has no commit yet: commit the files first"
    return f"{repository} has no revision {revision!r} {error.stderr}".strip()


async def _tracked_changes(repository: Path) -> str:
    arguments = ("status", "--porcelain=v1", "-z", "--untracked-files=no", "--ignore-submodules=all")
    status = await git(*arguments, at=repository, foreign=True)
    names = [entry[3:].decode("utf-8", "replace") for entry in status.split(b"\0") if len(entry) > 3]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


async def take_base(bare: Path, source: str, commit: str | None, *, env: dict[str, str] | None = None) -> Base:
    """Fetch a commit (default: the remote's HEAD) and the history before it into a new bare repository."""
    local = "://" not in source and Path(source).exists()
    names = await object_format(Path(source), foreign=True) if local else "sha1"
    try:
        await _fetch(bare, source, commit, names, local=local, env=env)
    except GitError as error:
        if local or _OTHER_FORMAT not in error.stderr:
            raise
        shutil.rmtree(bare)
        await _fetch(bare, source, commit, "sha256", local=local, env=env)
    return await read_base(bare)


async def _fetch(
    bare: Path, source: str, commit: str | None, names: str, *, local: bool, env: dict[str, str] | None
) -> None:
    await _init(bare, names)
    upload = ("--upload-pack", _ANY_COMMIT) if local else ()
    where = f"file://{Path(source).resolve()}" if local else source
    await git(
        "fetch", "--quiet", "--no-tags", "--update-shallow", f"--depth={HISTORY_DEPTH}", *upload,
        where, f"{commit or 'HEAD'}:{BASE_REF}", at=bare, env=env, own_config=local,
        protocols="file" if local else None,
    )  # fmt: skip
    (bare / "FETCH_HEAD").unlink(missing_ok=True)


async def _init(bare: Path, names: str) -> None:
    """A bare repository with nothing of a template in it, no hook above all."""
    arguments = ("init", "--quiet", "--bare", "--initial-branch=main", "--template=", f"--object-format={names}")
    await git(*arguments, str(bare))


async def read_base(bare: Path) -> Base:
    """What `take_base` fetched."""
    commit = await git_line("rev-parse", BASE_REF, at=bare)
    tree = await git_line("rev-parse", f"{BASE_REF}^{{tree}}", at=bare)
    return Base(commit, tree, await missing_notes(bare, tree))


async def git_folder_tar(bare: Path) -> bytes:
    """A tar with one scrubbed `.git` folder: base commit and its history, a neutral identity, nothing else."""
    with scratch("clone") as folder:
        clean = folder / ".git"
        await _init(clean, await object_format(bare))
        await git(
            "fetch", "--quiet", "--no-tags", "--update-shallow",
            f"file://{bare.resolve()}", f"{BASE_REF}:{BASE_REF}", at=clean,
        )  # fmt: skip
        (clean / "FETCH_HEAD").unlink(missing_ok=True)
        shutil.rmtree(clean / "logs", ignore_errors=True)
        for key, value in _SETTINGS.items():
            await git("config", key, value, at=clean)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(clean, arcname=".git", filter=_plain)
        return buffer.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member


async def import_pack(bare: Path, pack: bytes) -> None:
    """Take objects that came out of a sandbox into the run's repository, checked and bounded. Raises GitError."""
    await git("unpack-objects", "-q", "--strict", at=bare, stdin=pack, bounds=PACK_BOUNDS)


async def changed_bytes(bare: Path, base_tree: str, tree: str) -> int:
    """How much content a tree has that another one hasn't; holes and what packs well count as what they unpack to."""
    return sum(size for _, size in await _changed(bare, base_tree, tree))


async def _changed(bare: Path, base_tree: str, tree: str) -> list[tuple[bytes, int]]:
    """Path and bytes of each file that is new or other in a tree."""
    names = ("diff-tree", "-r", "-z", "--no-renames", "--diff-filter=d", base_tree, tree)
    fields = (await git(*names, at=bare)).split(b"\0")[:-1]
    entries = [(about.split(), path) for about, path in zip(fields[::2], fields[1::2], strict=True)]
    files = [(about[3], path) for about, path in entries if about[1] != _SUBMODULE]
    asked = b"".join(name + b"\n" for name, _ in files)
    sizes = (await git("cat-file", "--batch-check=%(objectsize)", at=bare, stdin=asked)).split()
    if len(sizes) != len(files):  # it says more words of one that isn't there
        raise GitError(("cat-file",), 1, "the tree names objects that are missing")
    return [(path, int(size)) for (_, path), size in zip(files, sizes, strict=True)]


async def export_pack(bare: Path, tree: str, without: str | None = None) -> bytes:
    """The objects of a tree as a pack, those of another tree left out."""
    wanted = tree + "\n" + (f"^{without}\n" if without else "")
    return await git("pack-objects", "--revs", "--stdout", "-q", at=bare, stdin=wanted.encode())


async def diff(bare: Path, base_tree: str, tree: str) -> str:
    """The patch between two trees: new files in, binary-safe, the same on every machine."""
    large = [path for path, size in await _changed(bare, base_tree, tree) if size > LARGE_TEXT]
    with scratch("attributes") as folder:
        attributes = folder / "attributes"
        attributes.write_bytes(b"".join(b"%s -diff\n" % _as_pattern(path) for path in large))
        output = await git(
            "-c", f"core.attributesFile={attributes}",
            "diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
            "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", base_tree, tree, at=bare,
        )  # fmt: skip
    return output.decode("utf-8", "surrogateescape")


def _as_pattern(path: bytes) -> bytes:
    """A path as git's attributes name exactly that one."""
    plain = b"/" + re.sub(rb"([*?\[\\])", rb"\\\1", path)
    return b'"' + b"".join(b"\\%03o" % byte for byte in plain) + b'"'


async def changed_files(bare: Path, base_tree: str, tree: str) -> list[tuple[str, str]]:
    """(status letter, path) of each file that differs between two trees."""
    output = await git("diff-tree", "-r", "-z", "--no-renames", "--name-status", base_tree, tree, at=bare)
    fields = output.decode("utf-8", "surrogateescape").split("\0")[:-1]
    return list(zip(fields[::2], fields[1::2], strict=True))
