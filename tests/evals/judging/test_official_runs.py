"""Judging against the official harness's own `run_instance`: the tries, the words, the tree, the log, the report."""

from __future__ import annotations

import asyncio
import json
import random
import re
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

from evals.grading.official import cached_wheel
from evals.grading.semantics import Semantics
from evals.judging.judge import judge
from evals.judging.script import eval_script
from evals.runs.record import Judged
from tests.agent.repos import commit, git, make_repo, write
from tests.evals.judging import harness
from tests.evals.judging.subject import Subject, raw_diff

pytestmark = [
    pytest.mark.evals,
    pytest.mark.skipif(
        not all(cached_wheel(semantics).is_file() for semantics in Semantics),
        reason="the official releases aren't there: scripts/swebench.sh fetches them",
    ),
]

OLD = [f"line {number} of the old text" for number in range(40)]
NOW = [*OLD[:10], "line 10 as it is today", *OLD[11:30], "a line that came in between", *OLD[30:]]


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def changed(lines: list[str], *edits: tuple[int, str]) -> str:
    found = [*lines]
    for place, line in edits:
        found[place] = line
    return text(found)


@dataclass(frozen=True)
class World:
    """A repository whose history holds an older text, so that patches made on it have blobs that git knows."""

    subject: Subject
    older: str

    def stale(self, files: dict[str, str | bytes | None], *options: str) -> str:
        """A patch made on the older commit."""
        write(self.subject.repository, {})
        git(self.subject.repository, "checkout", "-q", self.older)
        try:
            for name, content in files.items():
                if content is None:
                    (self.subject.repository / name).unlink()
                else:
                    write(self.subject.repository, {name: content})
            git(self.subject.repository, "add", "-A")
            return raw_diff(self.subject.repository, self.older, *options)
        finally:
            git(self.subject.repository, "reset", "-q", "--hard")
            git(self.subject.repository, "checkout", "-q", "main")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("official") / "repo"
    repository = make_repo(
        folder, {"text.txt": text(OLD), "other.txt": text(OLD), "gone.txt": "soon\n", "run.sh": "x\n"}
    )
    older = git(repository, "rev-parse", "HEAD")
    write(repository, {"text.txt": text(NOW)})
    return World(Subject(repository, commit(repository, "Now")), older)


TEST_PATCH = """\
diff --git a/tests/test_a.py b/tests/test_a.py
new file mode 100644
--- /dev/null
+++ b/tests/test_a.py
@@ -0,0 +1 @@
+# a test
"""
COMMAND = "cat text.txt; find . -path ./.git -prune -o -type f -print | sort; echo PASSED f; echo PASSED p; : "


def official(world: World, semantics: Semantics, patch: str, folder: Path, seconds: int = 60) -> Path:
    instance = world.subject.instance(test_patch=TEST_PATCH, FAIL_TO_PASS=["f"], PASS_TO_PASS=["p"])
    environment = world.subject.environment(test_command=COMMAND)
    spec = types.SimpleNamespace(
        instance_id=instance.instance_id, repo=instance.repo, version=instance.version, image="", image_assets={},
        is_remote_image=True, FAIL_TO_PASS=["f"], PASS_TO_PASS=["p"], log_parser="parse_log_flask",
        eval_type="pass_and_fail",
        eval_script=eval_script(instance, environment, semantics).replace("/testbed", str(folder / "testbed")),
    )  # fmt: skip
    return harness.run_official(semantics, spec, patch, folder, world.subject.repository, world.subject.commit, seconds)


async def ours(world: World, semantics: Semantics, patch: str, folder: Path, seconds: float = 60) -> Judged:
    spec = world.subject.spec(
        test_patch=TEST_PATCH, FAIL_TO_PASS=["f"], PASS_TO_PASS=["p"], semantics=semantics, seconds=seconds,
        environment={"test_command": COMMAND},
    )  # fmt: skip
    return await judge(spec, patch, folder)


STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - \w+ - ", re.MULTILINE)


def messages(log: Path, *places: str) -> list[str]:
    """What the log says of the patch and of the tree before the tests, free of times and places."""
    found = [message.strip() for message in STAMP.split(log.read_text())[1:]]
    kept = []
    for message in found:
        for place in places:
            message = message.replace(place, "PLACE")
        if message.startswith((">>>>> ", "Failed to apply", "Git diff before")):
            kept.append(re.sub(r"/\S*patch\.diff", "PATCH", message))
    return kept


def seen_by_tests(folder: Path) -> list[str]:
    """The tests' own output: the tree that they ran on. The shell's trace of a pipe comes in any order."""
    file = folder / "test_output.txt"
    said = file.read_text().partition("Start Test Output'")[2] if file.exists() else ""
    return [line for line in said.splitlines() if not line.startswith("+ ")]


CASES: dict[str, object] = {
    "clean": lambda world: world.subject.diff({"text.txt": changed(NOW, (3, "mended"))}),
    "new file, removed file, new mode": lambda world: world.subject.diff({"new/a.txt": "a\n", "gone.txt": None}),
    "binary": lambda world: world.subject.diff({"picture.bin": bytes(range(256))}),
    "three ways": lambda world: world.stale({"text.txt": changed(OLD, (12, "mended"))}),
    "three ways with a conflict": lambda world: world.stale({"text.txt": changed(OLD, (10, "mended"))}),
    "a conflict and a clean file": lambda world: world.stale(
        {"text.txt": changed(OLD, (10, "mended")), "other.txt": changed(OLD, (1, "mended"))}
    ),
    "one hunk of two": lambda world: world.stale({"text.txt": changed(OLD, (2, "mended"), (10, "mended too"))}),
    "no known blobs": lambda world: re.sub(
        r"^index .*\n", "", world.stale({"text.txt": changed(OLD, (2, "mended"), (12, "too"))}), flags=re.MULTILINE
    ),
    "no known blobs, one hunk": lambda world: re.sub(
        r"^index .*\n", "", world.stale({"text.txt": changed(OLD, (12, "too"))}), flags=re.MULTILINE
    ),
    "applied before": lambda world: world.stale({"text.txt": text(NOW)}),
    "applied before, no known blobs": lambda world: re.sub(
        r"^index .*\n", "", world.stale({"text.txt": text(NOW)}), flags=re.MULTILINE
    ),
    "a file that is there": lambda world: world.stale({"text.txt": text(NOW)}, "-R"),
    "rename": lambda world: world.subject.diff({"gone.txt": None, "moved.txt": "soon\n"}),
    "garbage": lambda _: "this is no patch\n",
    "a conversation around it": lambda world: f"Here it is:\n```diff\n{world.subject.diff({'other.txt': 'x'})}```\n",
    "torn": lambda world: world.subject.diff({"text.txt": changed(NOW, (3, "mended"))})[:-30] + "\n",
    "crlf": lambda world: world.subject.diff({"text.txt": changed(NOW, (3, "mended"))}).replace("\n", "\r\n"),
    "no such file": lambda world: world.subject.diff({"other.txt": "x\n"}).replace("other.txt", "nowhere.txt"),
    "out of the folder": lambda world: world.subject.diff({"new.txt": "x\n"}).replace("new.txt", "../../new.txt"),
    "absolute": lambda world: world.subject.diff({"new.txt": "x\n"}).replace("b/new.txt", "/tmp/pw-new.txt"),
    "mode only": lambda _: "diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n",
    "no prefix": lambda world: re.sub("[ab]/other", "other", world.subject.diff({"other.txt": "x\n"})),
}  # fmt: skip


@pytest.mark.parametrize("semantics", Semantics)
@pytest.mark.parametrize("name", CASES)
async def test_a_patch_of_each_kind(world: World, name: str, semantics: Semantics, tmp_path: Path) -> None:
    make = CASES[name]
    assert callable(make)
    await both(world, semantics, make(world), tmp_path)


async def both(world: World, semantics: Semantics, patch: str, folder: Path) -> str:
    """Judge it twice and compare all that can be; gives the words about the patch."""
    theirs = official(world, semantics, patch, folder / "theirs")
    judged = await ours(world, semantics, patch, folder / "ours")
    said = messages(folder / "ours" / "run_instance.log")
    assert said == messages(theirs / "run_instance.log", str(folder / "theirs"))
    assert seen_by_tests(folder / "ours") == seen_by_tests(theirs)
    if (theirs / "report.json").exists():
        report = json.loads((theirs / "report.json").read_text())["pallets__flask-1"]
        assert dict(judged.report) == report
        assert json.loads((folder / "ours" / "report.json").read_text()) == {"pallets__flask-1": report}
        assert report["resolved"]
    else:
        assert judged.report["resolved"] is False
        assert judged.report["patch_successfully_applied"] is False
    return said[0].split(":")[0] if said else ""


@pytest.mark.parametrize("semantics", Semantics)
def test_random_patches(world: World, semantics: Semantics, tmp_path: Path) -> None:
    """Patches of random edits on either commit, then damaged; every way out is taken by some."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    ends = set()
    for number in range(25):
        patch = random_patch(world, chance)
        folder = tmp_path / str(number)
        try:
            ends.add(asyncio.run(both(world, semantics, patch, folder)))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, patch {number}:\n{patch}") from error
    assert ">>>>> Applied Patch" in ends
    assert len(ends) > 1


def random_patch(world: World, chance: random.Random) -> str:
    lines = [*(OLD if chance.random() < 0.7 else NOW)]
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(lines))
        lines[place : place + chance.randint(0, 2)] = [f"random {chance.randrange(9)}"] * chance.randint(0, 2)
    files: dict[str, str | bytes | None] = {"text.txt": text(lines)}
    if chance.random() < 0.3:
        files["other.txt"] = changed(OLD, (chance.randrange(40), "mended"))
    if chance.random() < 0.2:
        files["added.txt"] = "new\n"
    patch = world.stale(files, f"-U{chance.choice([1, 3, 3, 3, 8])}")
    if chance.random() < 0.4:
        patch = re.sub(r"^index .*\n", "", patch, flags=re.MULTILINE)
    if chance.random() < 0.15:
        rows = patch.split("\n")
        del rows[chance.randrange(len(rows))]
        patch = "\n".join(rows)
    return patch.rstrip("\n") + "\n" if patch.strip() else "nothing\n"


@pytest.mark.parametrize("semantics", Semantics)
async def test_a_missing_last_newline_is_mended(world: World, semantics: Semantics, tmp_path: Path) -> None:
    """The harness has to fall back to `patch` for it; the tree is the same."""
    patch = world.subject.diff({"text.txt": changed(NOW, (3, "mended"))}).rstrip("\n")
    theirs = await asyncio.to_thread(official, world, semantics, patch, tmp_path / "theirs")
    judged = await ours(world, semantics, patch, tmp_path / "ours")
    lines = slice(1, 1 + len(NOW))  # what follows also lists the copy that `patch` keeps of the file
    assert seen_by_tests(tmp_path / "ours")[lines] == seen_by_tests(theirs)[lines]
    assert judged.report == json.loads((theirs / "report.json").read_text())["pallets__flask-1"]
    assert "mended" in "".join(seen_by_tests(theirs))
    assert "Failed to apply patch to container: git apply --verbose" in (theirs / "run_instance.log").read_text()
    assert "Failed to apply" not in (tmp_path / "ours" / "run_instance.log").read_text()


@pytest.mark.parametrize("semantics", Semantics)
async def test_the_time_limit(
    world: World, semantics: Semantics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness leaves the same words, and no report; ours says unresolved."""
    monkeypatch.setattr("tests.evals.judging.test_official_runs.COMMAND", "echo PASSED f; sleep 60; : ")
    patch = world.subject.diff({"text.txt": changed(NOW, (3, "mended"))})
    theirs = await asyncio.to_thread(official, world, semantics, patch, tmp_path / "theirs", 2)
    judged = await ours(world, semantics, patch, tmp_path / "ours", 2)
    end = "\n\nTimeout error: 2 seconds exceeded."
    assert (theirs / "test_output.txt").read_text().endswith(end)
    assert (tmp_path / "ours" / "test_output.txt").read_text().partition(end)[2] == "\n>>>>> Tests Timed Out\n"
    assert not (theirs / "report.json").exists()
    assert judged.report["resolved"] is False
    assert "Test timed out after 2 seconds." in (theirs / "run_instance.log").read_text()
    assert "Test timed out after 2 seconds." in (tmp_path / "ours" / "run_instance.log").read_text()
