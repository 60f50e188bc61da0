"""A project with a past, a base commit and a future, and everything by which the future can be left in a checkout."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evals.instance import Instance, Schema
from evals.leaks import LeakKind
from tests.agent.repos import commit, git, make_repo, write

MEAN = "def mean(values):\n    return sum(values) / (len(values) + 1)\n"
FIXED = (
    "def mean(values):\n"
    "    counted = [value for value in values if value is not None]\n"
    "    if not counted:\n"
    "        raise ValueError('the mean of no values at all is not defined')\n"
    "    return sum(counted) / float(len(counted))\n"
)
FILES: dict[str, str | bytes] = {
    "calc/__init__.py": '__version__ = "1.2.0"\n',
    "calc/ops.py": MEAN,
    "calc/text.py": "def words(text):\n    return text.split()\n",
    "tests/test_ops.py": "from calc.ops import mean\n\n\ndef test_mean():\n    assert mean([2, 4]) == 3\n",
    "setup.py": "from setuptools import setup\n\nsetup(name='calc-tools', packages=['calc'])\n",
    ".gitignore": "__pycache__/\n*.log\nbuild/\n",
    "crlf.txt": b"one\r\ntwo\r\n",
}
TEST_PATCH = """--- a/tests/test_ops.py
+++ b/tests/test_ops.py
@@ -3,3 +3,8 @@
 def test_mean():
     assert mean([2, 4]) == 3
+
+
+def test_mean_of_values_that_are_missing():
+    assert mean([2, None, 4]) == 3, 'missing values are left out'
+    assert mean([None, 8.5]) == 8.5, 'one value is its own mean'
"""


@dataclass(frozen=True)
class Story:
    """The upstream repository. `fix` is the commit after `base`."""

    upstream: Path
    before: str
    base: str
    fix: str

    @property
    def instance(self) -> Instance:
        return Instance(
            instance_id="calc__calc-17",
            repo="calc/calc-tools",
            schema=Schema.SWE_BENCH_4,
            fail_to_pass=("tests/test_ops.py::test_mean_of_values_that_are_missing",),
            pass_to_pass=("tests/test_ops.py::test_mean",),
            problem_statement="mean() is too small\n\nmean([2, 4]) gives 2.",
            base_commit=self.base,
            patch=git(self.upstream, "diff", f"{self.base}..{self.fix}", "--", "calc") + "\n",
            test_patch=TEST_PATCH,
            version="1.2",
        )


def story(folder: Path) -> Story:
    """Upstream with tags, branches, stashes, notes and reflogs on both sides of the base commit."""
    upstream = make_repo(folder / "upstream", FILES)
    before = git(upstream, "rev-parse", "HEAD")
    git(upstream, "tag", "-a", "v1.1", "-m", "A release of the past")
    write(upstream, {"calc/text.py": "def words(text):\n    return text.lower().split()\n"})
    base = commit(upstream, "Words are small")
    write(upstream, {"calc/ops.py": FIXED, "calc/__init__.py": '__version__ = "1.3.0"\n'})
    fix = commit(upstream, "Mend mean")
    write(upstream, {"calc/more.py": "LATER = True\n"})
    commit(upstream, "More")
    git(upstream, "tag", "-a", "v1.3", "-m", "A release of the future")
    git(upstream, "branch", "later")
    git(upstream, "notes", "add", "-m", "see the fix", base)
    write(upstream, {"calc/ops.py": FIXED + "# half done\n"})
    git(upstream, "stash")
    return Story(upstream, before, base, fix)


def checkout(story: Story, folder: Path) -> Path:
    """A checkout of the base commit that holds nothing else: what plants go into."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "config", "core.logAllRefUpdates", "false")
    git(folder, "fetch", "--quiet", "--no-tags", str(story.upstream), f"{story.base}:refs/heads/base")
    git(folder, "symbolic-ref", "HEAD", "refs/heads/base")
    git(folder, "reset", "--quiet", "--hard")
    (folder / ".git/FETCH_HEAD").unlink()
    (folder / ".git/ORIG_HEAD").unlink(missing_ok=True)
    return folder


Plant = Callable[[Story, Path, Path], None]
"""Puts a leak into a checkout (second) or somewhere else in the machine (third)."""


def _take(story: Story, work: Path, ref: str) -> None:
    git(work, "fetch", "--quiet", "--no-tags", str(story.upstream), f"{story.fix}:{ref}")
    (work / ".git/FETCH_HEAD").unlink()


def commit_after(story: Story, work: Path, _: Path) -> None:
    _take(story, work, "refs/heads/x")
    git(work, "reset", "--quiet", "--hard", "x")
    git(work, "reset", "--quiet", "--soft", "x")


def commit_beside(story: Story, work: Path, _: Path) -> None:
    write(work, {"calc/ops.py": FIXED})
    commit(work, "SWE-bench")


def branch(story: Story, work: Path, _: Path) -> None:
    _take(story, work, "refs/heads/later")


def packed_branch(story: Story, work: Path, _: Path) -> None:
    _take(story, work, "refs/heads/later")
    git(work, "pack-refs", "--all")
    git(work, "gc", "--quiet")


def broken_branch(story: Story, work: Path, _: Path) -> None:
    write(work, {".git/refs/heads/gone": story.fix + "\n"})


def tag(story: Story, work: Path, _: Path) -> None:
    git(work, "fetch", "--quiet", str(story.upstream), "refs/tags/v1.3:refs/tags/v1.3")


def stash(_: Story, work: Path, __: Path) -> None:
    write(work, {"calc/ops.py": FIXED})
    git(work, "stash")


def notes(_: Story, work: Path, __: Path) -> None:
    git(work, "notes", "add", "-m", "counted = those that are there")


def replace(story: Story, work: Path, _: Path) -> None:
    _take(story, work, "refs/heads/x")
    git(work, "replace", "HEAD", "x")
    git(work, "branch", "-D", "x")


def remote_ref(story: Story, work: Path, _: Path) -> None:
    _take(story, work, "refs/remotes/origin/main")


def pull_ref(story: Story, work: Path, _: Path) -> None:
    _take(story, work, "refs/pull/17/head")


def remote(_: Story, work: Path, __: Path) -> None:
    git(work, "remote", "add", "origin", "https://example.invalid/calc.git")


def reflog(story: Story, work: Path, _: Path) -> None:
    write(work, {".git/logs/HEAD": f"{story.fix} {story.base} A <a@b.c> 1767300000 +0000\treset: moving to base\n"})


def fetch_head(story: Story, work: Path, _: Path) -> None:
    write(work, {".git/FETCH_HEAD": f"{story.fix}\t\tbranch 'main' of https://example.invalid/calc\n"})


def orig_head(story: Story, work: Path, _: Path) -> None:
    write(work, {".git/ORIG_HEAD": story.fix + "\n"})


def merge_head(story: Story, work: Path, _: Path) -> None:
    write(work, {".git/MERGE_HEAD": story.fix + "\n"})


def half_a_rebase(story: Story, work: Path, _: Path) -> None:
    write(work, {".git/rebase-merge/git-rebase-todo": f"pick {story.fix} Mend mean\n"})


def worktree(story: Story, work: Path, away: Path) -> None:
    git(work, "worktree", "add", "--quiet", "--detach", str(away / "second"), story.before)


def submodule(story: Story, work: Path, _: Path) -> None:
    shutil.copytree(story.upstream / ".git", work / ".git/modules/vendor/calc")


def alternates(story: Story, work: Path, _: Path) -> None:
    write(work, {".git/objects/info/alternates": f"{story.upstream}/.git/objects\n"})


def loose_objects(_: Story, work: Path, __: Path) -> None:
    git(work, "hash-object", "-w", "--stdin", text=FIXED)


def packed_objects(story: Story, work: Path, _: Path) -> None:
    """A pack of the future without any ref that leads to it."""
    _take(story, work, "refs/heads/x")
    git(work, "repack", "-a", "-d", "--quiet")
    git(work, "branch", "-D", "x")


def stray_pack(story: Story, work: Path, _: Path) -> None:
    (work / ".git/objects/pack").mkdir(exist_ok=True)
    (work / ".git/objects/pack/tmp_pack_Ab3").write_bytes(_pack(story))


def pack_elsewhere(story: Story, _: Path, away: Path) -> None:
    (away / "data.bin").write_bytes(_pack(story))


def _pack(story: Story) -> bytes:
    command = ["git", "-C", str(story.upstream), "pack-objects", "--revs", "--stdout", "-q"]
    return subprocess.run(command, input=f"{story.fix}\n".encode(), capture_output=True, check=True).stdout


def index(_: Story, work: Path, __: Path) -> None:
    write(work, {"calc/ops.py": FIXED})
    git(work, "add", "-A")
    write(work, {"calc/ops.py": MEAN})


def work_tree(_: Story, work: Path, __: Path) -> None:
    write(work, {"calc/ops.py": FIXED})


def bundle(story: Story, _: Path, away: Path) -> None:
    git(story.upstream, "bundle", "create", "--quiet", str(away / "backup"), "main")


def patch_file(story: Story, work: Path, _: Path) -> None:
    write(work, {"fix.patch": story.instance.patch})


def patch_elsewhere(story: Story, _: Path, away: Path) -> None:
    write(away, {"notes": story.instance.patch})


def rejected_hunk(_: Story, work: Path, __: Path) -> None:
    write(work, {"calc/ops.py.rej": "@@ -1 +1 @@\n-a\n+b\n"})


def original_file(_: Story, work: Path, __: Path) -> None:
    write(work, {"calc/ops.py.orig": FIXED})


def other_checkout(story: Story, _: Path, away: Path) -> None:
    shutil.copytree(story.upstream, away / "testbed")


def shallow_checkout(story: Story, _: Path, away: Path) -> None:
    """Of a later commit, so that it doesn't even hold the base commit."""
    git(away, "clone", "--quiet", "--depth=1", f"file://{story.upstream}", str(away / "src"))


def installed_copy(_: Story, __: Path, away: Path) -> None:
    write(away, _package("lib/python3.11/site-packages", "1.3.0"))


def vendored_copy(_: Story, __: Path, away: Path) -> None:
    write(away, _package("lib/python3.11/site-packages/pip/_vendor", ""))


def build_folder(_: Story, work: Path, __: Path) -> None:
    write(work, _package("build/lib", ""))


def _package(folder: str, version: str) -> dict[str, str | bytes]:
    made: dict[str, str | bytes] = {
        f"{folder}/calc/__init__.py": "VERSION = None\n",
        f"{folder}/calc/ops.py": FIXED,
        f"{folder}/calc/text.py": "",
    }
    return {**made, f"{folder}/calc_tools-{version}.dist-info/METADATA": "Name: calc-tools\n"} if version else made


def wheel(_: Story, __: Path, away: Path) -> None:
    write(away, {"wheels/calc_tools-1.3.0-py3-none-any.whl": b"PK\x03\x04"})


def sdist(_: Story, __: Path, away: Path) -> None:
    write(away, {"calc-tools-2.0.tar.gz": _sdist("calc-tools-2.0")})


def pip_cache(_: Story, __: Path, away: Path) -> None:
    """A wheel as pip keeps what it got: under a name that says nothing."""
    write(away, {"cache/pip/http-v2/a/b/ab12.body": later_wheel()})


def later_wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("calc/ops.py", FIXED)
        archive.writestr("calc_tools-1.3.0.dist-info/METADATA", "Name: calc-tools\n")
    return buffer.getvalue()


def later_package() -> dict[str, str | bytes]:
    """What installing the later version puts into a `site-packages`."""
    return {name.partition("/")[2]: content for name, content in _package("x", "1.3.0").items()}


def pip_cache_of_sources(_: Story, __: Path, away: Path) -> None:
    write(away, {"cache/pip/http-v2/a/c/ac12.body": _sdist("calc-tools-1.3.0")})


def old_pip_cache(_: Story, __: Path, away: Path) -> None:
    """As pip kept it before: the answer's head, then the wheel."""
    write(
        away,
        {
            "cache/pip/http/1/2/12": b"cc=4,\x82response PK\x03\x04"
            + b"calc_tools-1.3.0.dist-info/METADATA"
            + b"\0" * 99
        },
    )


def npm_cache(_: Story, __: Path, away: Path) -> None:
    row = (
        '1f\t{"key":"make-fetch-happen:request-cache:https://registry.example.org/calc-tools/-/calc-tools-1.3.0.tgz"}\n'
    )
    write(away, {".npm/_cacacache/index-v5/a/b": row})


def node_modules(_: Story, __: Path, away: Path) -> None:
    write(away, {"node_modules/calc-tools/package.json": '{"name": "calc-tools", "version": "1.3.0"}'})


def _sdist(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(f"{name}/calc/ops.py")
        member.size = len(FIXED)
        tar.addfile(member, io.BytesIO(FIXED.encode()))
    return gzip.compress(buffer.getvalue())


def gold_text(story: Story, _: Path, away: Path) -> None:
    write(away, {"later.py": FIXED})


def gold_tests(_: Story, work: Path, __: Path) -> None:
    added = "\n".join(line[1:] for line in TEST_PATCH.splitlines() if line.startswith("+"))
    write(work, {"build/test_hidden.py": added})


def gold_in_json(story: Story, _: Path, away: Path) -> None:
    import json

    write(away, {"run/row": json.dumps({"x": story.instance.patch, "pad": "-" * 400})})


def gold_fields(_: Story, __: Path, away: Path) -> None:
    write(away, {"instance.json": '{"instance_id": "x", "FAIL_TO_PASS": "[]", "test_patch": ""}'})


PLANTS: dict[str, tuple[LeakKind, Plant]] = {
    plant.__name__: (kind, plant)
    for kind, plants in (
        (LeakKind.COMMIT, (commit_after, commit_beside)),
        (LeakKind.BRANCH, (branch, packed_branch, broken_branch)),
        (LeakKind.TAG, (tag,)),
        (LeakKind.STASH, (stash,)),
        (LeakKind.NOTES, (notes,)),
        (LeakKind.REPLACE, (replace,)),
        (LeakKind.REMOTE_REF, (remote_ref,)),
        (LeakKind.OTHER_REF, (pull_ref,)),
        (LeakKind.REMOTE, (remote,)),
        (LeakKind.REFLOG, (reflog,)),
        (LeakKind.PSEUDO_REF, (fetch_head, orig_head, merge_head, half_a_rebase)),
        (LeakKind.WORKTREE, (worktree,)),
        (LeakKind.SUBMODULE, (submodule,)),
        (LeakKind.ALTERNATES, (alternates,)),
        (LeakKind.OBJECTS, (loose_objects, packed_objects)),
        (LeakKind.STRAY_PACK, (stray_pack, pack_elsewhere)),
        (LeakKind.INDEX, (index,)),
        (LeakKind.WORK_TREE, (work_tree,)),
        (LeakKind.BUNDLE, (bundle,)),
        (LeakKind.PATCH, (patch_file, patch_elsewhere, rejected_hunk, original_file)),
        (LeakKind.CHECKOUT, (other_checkout, shallow_checkout)),
        (LeakKind.COPY, (installed_copy, vendored_copy, build_folder, node_modules)),
        (LeakKind.CACHE, (wheel, sdist, pip_cache, pip_cache_of_sources, old_pip_cache, npm_cache)),
        (LeakKind.GOLD, (gold_text, gold_tests, gold_in_json)),
        (LeakKind.GOLD_FIELDS, (gold_fields,)),
    )
    for plant in plants
}
"""All but variables and networks, which are the sandbox's: name of the plant -> what has to be found."""

TOGETHER: tuple[Plant, ...] = (
    stash, commit_beside, branch, tag, notes, remote_ref, pull_ref, remote, reflog, fetch_head, half_a_rebase,
    worktree, submodule, loose_objects, stray_pack, bundle, patch_elsewhere, rejected_hunk, other_checkout,
    installed_copy, pip_cache, wheel, gold_text, gold_fields, index, work_tree, alternates, replace,
)  # fmt: skip
"""One of each kind at least, in an order in which one checkout can have them all."""


def harmless(story: Story, work: Path, away: Path) -> None:
    """What lies around in any machine and gives nothing away."""
    git(work, "tag", "-a", "v1.1", "-m", "A release of the past", story.before)
    git(work, "config", "user.name", "Somebody")
    write(work, {"build/notes.log": "nothing\n", ".pytest_cache/v/cache/nodeids": '["tests/test_ops.py::test_mean"]'})
    (work / "crlf.txt").write_bytes(b"one\ntwo\n")
    write(away, {
        "lib/python3.11/site-packages/calculator/ops.py": FIXED.splitlines()[0],
        "lib/python3.11/site-packages/other-9.0.dist-info/METADATA": "Name: other\n",
        "wheels/calc_tools-1.1.0-py3-none-any.whl": b"PK\x03\x04",
        "wheels/other-3.0.tar.gz": _sdist("other-3.0"),
        "share/quilt/some.patch": "--- a/debian/control\n+++ b/debian/control\n@@ -1 +1 @@\n-a\n+b\n",
        "share/ops.orig": "x",
        "rows.json": '{"FAIL_TO_PASS": []}',
        "notes.txt": "a test_patch is applied last",
        "swebench/constants.py": "KEY = 'FAIL_TO_PASS', 'test_patch'\n",
        "one_line.py": "    return sum(counted) / float(len(counted))\n",
    })  # fmt: skip
    old = {f"old/{name}": FILES[name] for name in FILES}
    write(away, old)
    make_repo(away / "another", {"README": "Another project", "lib/x.py": "x = 1\n", "lib/y.py": "y = 2\n"})
    git(away, "clone", "--quiet", "--no-local", str(work), str(away / "again"))
    git(away / "again", "remote", "remove", "origin")
    shutil.rmtree(away / "again/.git/logs")
    os.symlink(story.upstream, away / "link")
