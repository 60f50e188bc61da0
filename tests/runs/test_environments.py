"""`agent fix` and `agent sandbox build REPO` on a repository whose tests need more than the base image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agent.repos import commit, write
from tests.runs.harness import ISSUE, Place, fixing_turns, served
from tests.sandbox.kinds import need

NEEDY: dict[str, str | bytes] = {
    "pyproject.toml": '[project]\nname = "needy"\n',
    "src/only_found_by_path.py": "",
    "tests/test_path.py": "import only_found_by_path\n\n\ndef test():\n    assert only_found_by_path\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    need("bubblewrap")
    place = Place(tmp_path)
    place.make_repo()
    write(place.repo, NEEDY)
    commit(place.repo)
    return place


@pytest.mark.bubblewrap
def test_a_run_works_in_the_environment_that_was_detected(place: Place) -> None:
    with served(fixing_turns()) as model:
        done = place.agent("fix", str(place.repo), ISSUE, "--model", model.url, "--sandbox", "bubblewrap", "--json")
    assert done.code == 0, done.err + done.out[-3000:]
    (opened,) = done.of_type("sandbox_opened")
    assert Path(opened["image"]).name.startswith("environment-")


@pytest.mark.bubblewrap
def test_a_repository_from_elsewhere_gets_the_base_image_unless_it_is_allowed(place: Place) -> None:
    arguments = ("fix", f"file://{place.repo}", ISSUE, "--sandbox", "bubblewrap", "--json")
    with served(fixing_turns()) as model:
        plain = place.agent(*arguments, "--model", model.url)
    with served(fixing_turns()) as model:
        allowed = place.agent(*arguments, "--model", model.url, "--allow-build")
    images = [Path(done.of_type("sandbox_opened")[0]["image"]).name.split("-")[0] for done in (plain, allowed)]
    assert images == ["base", "environment"]
    assert any("--allow-build" in data["text"] for data in plain.of_type("progress"))


@pytest.mark.bubblewrap
def test_an_environment_is_built_ahead_and_tried(place: Place) -> None:
    done = place.agent("sandbox", "build", str(place.repo), "--kind", "bubblewrap", "--test", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert made["workdir"] == "/workspace" and made["detection"]["source"] == "detected"
    assert "PYTHONPATH" in done.err
    write(place.repo, {"tests/test_path.py": "import not_there\n"})
    commit(place.repo)
    again = place.agent("sandbox", "build", str(place.repo), "--kind", "bubblewrap", "--test")
    assert again.code == 1 and f"bubblewrap image: {made['image']} (" in again.out and "exit status" in again.out


def test_a_dry_run_only_says_what_it_sees(place: Place) -> None:
    done = place.agent("sandbox", "build", str(place.repo), "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert "seen: src: no dependencies, sources below src" in done.out and "test command: " in done.out
    choices = json.loads(place.agent("sandbox", "build", str(place.repo), "--dry-run", "--json").out)["choices"]
    assert [choice["ecosystem"] for choice in choices] == ["python"] and len(choices[0]["digest"]) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dry-run"], "--dry-run needs a REPO"),
        (["{repo}", "--force"], "--force is for the base image"),
        (["{repo}", "--kind", "all"], "name one kind"),
        (["{repo}/nothing"], "is no folder, no git URL"),
    ],
)
def test_what_means_nothing_is_refused(place: Place, arguments: list[str], message: str) -> None:
    done = place.agent("sandbox", "build", *(word.format(repo=place.repo) for word in arguments))
    assert done.code in (1, 2) and message in done.err and "Traceback" not in done.err
