"""`agent fix` from end to end, and every way in which it can end."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest

from tests.agent.repos import commit, git, write
from tests.runs.harness import FIX, ISSUE, TESTS, Place, call, fixing_turns, served


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.make_repo()
    return place


def test_an_issue_goes_in_and_a_verified_patch_comes_out(place: Place) -> None:
    with served(fixing_turns()) as model:
        done = place.fix(model.url, "--out", str(place.folder / "out.diff"))
    assert done.code == 0, done.err + done.out[-3000:]
    assert FIX in place.patch()
    assert (place.folder / "out.diff").read_text() == place.patch()
    (check,) = [data for data in done.of_type("check") if data["kind"] == "command"]
    assert (check["command"], check["verdict"]) == (TESTS, "fixed")
    assert check["source"] == "failed and later passed in the run"
    assert done.of_type("verified") == [{"verified": True, "applies": True, "verdicts": ["fixed"]}]
    assert git(place.repo, "status", "--porcelain") == ""
    assert git(place.repo, "branch", "--list") == "* main"


def test_every_prompt_is_the_last_one_and_something_new(place: Place) -> None:
    with served(fixing_turns()) as model:
        done = place.fix(model.url)
    usages = [data["usage"] for data in done.of_type("turn")]
    assert len(usages) == 6
    for before, after in itertools.pairwise(usages):
        assert after["cached"] == before["prompt"] + before["completion"] - 1  # nobody computed the last token


def test_a_branch_and_the_work_tree_on_request(place: Place) -> None:
    with served(fixing_turns()) as model:
        done = place.fix(model.url, "--branch", "fix/mean", "--apply")
    assert done.code == 0, done.err
    assert git(place.repo, "show", "fix/mean:calc/ops.py").endswith("/ len(values)")
    assert git(place.repo, "log", "-1", "--format=%s", "fix/mean") == "mean() is too small"
    assert git(place.repo, "status", "--porcelain") == "M calc/ops.py"
    assert git(place.repo, "rev-parse", "HEAD") == git(place.repo, "rev-parse", "fix/mean^")


def test_the_user_interface_in_plain_lines(place: Place) -> None:
    with served(fixing_turns()) as model:
        arguments = [word for word in place.fix_arguments(model.url) if word != "--json"]
        done = place.agent(*arguments)
    assert done.code == 0
    for words in ("I reproduce it.", "> str_replace_editor", "cached", "fixed: " + TESTS, "VERIFIED (exit code 0)"):
        assert words in done.out
    run = place.run_folder.name
    assert run in place.agent("runs", "list").out
    assert "FAILED" in place.agent("runs", "show").out
    assert place.agent("runs", "diff", run[-4:]).out == place.patch()
    place.agent("runs", "export", "--out", str(place.folder / "given"))
    messages = json.loads((place.folder / "given" / "messages.json").read_text())
    assert [message["role"] for message in messages][:4] == ["system", "user", "assistant", "tool"]
    assert messages[2]["reasoning_content"] == "I look around."


@pytest.mark.parametrize(
    ("turns", "options", "code", "end"),
    [
        pytest.param(fixing_turns()[:3], ["--max-steps", "3"], 5, "step limit", id="steps"),
        pytest.param(fixing_turns(), ["--max-tokens", "150"], 5, "token limit", id="tokens"),
        pytest.param([call("bash", command="sleep 60")], ["--timeout", "4"], 5, "time limit", id="time"),
        pytest.param([{"reasoning": "Hm.", "content": "I will fix it."}] * 5, [], 5, "no tool call", id="talking"),
        pytest.param([call("submit", summary="No bug.")] * 2, [], 4, "submitted", id="nothing to change"),
        pytest.param(fixing_turns()[2:3] + fixing_turns()[4:], [], 3, "submitted", id="shown by nothing"),
    ],
)
def test_ends_and_their_exit_codes(place: Place, turns: list, options: list[str], code: int, end: str) -> None:
    with served(turns) as model:
        done = place.fix(model.url, *options)
    assert done.code == code, done.err + done.out[-3000:]
    assert done.of_type("loop_ended")[0]["end"] == end
    assert done.of_type("run_ended")[0]["exit_code"] == code


def test_a_limit_keeps_the_diff_and_a_higher_one_lets_the_run_go_on(place: Place) -> None:
    with served(fixing_turns()) as model:
        first = place.fix(model.url, "--max-steps", "3")
        assert first.code == 5
        assert FIX in place.patch()
        assert place.agent("resume", "last").code == 5  # nothing changed: the same end again
        second = place.agent("resume", "last", "--max-steps", "20", "--json")
    assert second.code == 0, second.err
    assert len(second.of_type("turn")) == 3


def test_a_turn_without_a_call_is_answered_in_a_tool_response(place: Place) -> None:
    talk = {"reasoning": "Hm.", "content": "I will fix it now."}
    with served([talk, *fixing_turns()]) as model:
        done = place.fix(model.url)
        tokenizer = model.server.engine.tokenizer
        prompts = [tokenizer.decode(request.prompt_ids) for request in model.server.requests]
    assert done.code == 0, done.err
    nudges = [data["nudge"] for data in done.of_type("observed") if data["nudge"]]
    assert len(nudges) == 1
    assert "No tool was called" in nudges[0]
    assert len(prompts) == 7
    assert all(prompt.count("<|im_start|>user") == prompt.count("<tool_response>\n") + 1 for prompt in prompts)


def test_malformed_calls_are_taken_or_explained(place: Place) -> None:
    inside = {"text": "I call it here <tool_call>\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>"}
    cut = {"text": "Let me.\n</think>\n\n<tool_call>\n<function=bash>\n<parameter=command>\nrm -rf ca"}
    unknown = call("browser", url="x")
    with served([inside, cut, unknown, *fixing_turns()]) as model:
        done = place.fix(model.url)
    assert done.code == 0, done.err
    assert [len(data["calls"]) for data in done.of_type("turn")][:3] == [1, 0, 1]
    assert "there is no tool called 'browser'" in done.of_type("observation")[1]["text"]
    assert "note on the call's format" in done.of_type("observation")[0]["text"]


def test_what_submit_shows_must_be_read_first(place: Place) -> None:
    twice = call("submit", summary="Done.")
    twice["calls"] *= 2
    turns = fixing_turns()
    with served([*turns[:4], twice, turns[5]]) as model:
        done = place.fix(model.url)
    assert done.code == 0, done.err
    assert [data["ends_run"] for data in done.of_type("observation")] == [False] * 6 + [True]
    assert done.of_type("observation")[5]["text"].startswith("Not done: nothing after a submit")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fix", "{repo}", "missing/issue.md"], 6, "there is no file missing/issue.md"),
        (["fix", "{folder}", ISSUE], 6, "not a git repository: run `git init`"),
        (["fix", "no such thing", ISSUE], 6, "no folder, no git URL and no owner/name"),
        (["fix", "{repo}", "12"], 6, "no GitHub remote"),
        (["fix", "{repo}", ISSUE, "--revision", "nowhere"], 6, "no revision 'nowhere'"),
        (["fix", "{repo}", ISSUE, "--branch", "main"], 6, "already has a branch 'main'"),
        (["fix", "{repo}", ISSUE, "--out", "/nowhere/x.diff"], 6, "can't be written"),
        (["fix", "{repo}", ISSUE, "--model", "http://127.0.0.1:9"], 7, "127.0.0.1:9"),
        (["fix", "{repo}", ISSUE, "--model", "nonsense:model"], 7, "nonsense:model"),
        (["fix", "{repo}", ISSUE, "--sandbox", "vm"], 2, "vm"),
        (["resume", "nothing"], 6, "no runs in"),
        (["runs", "show", "nothing"], 6, "no runs in"),
    ],
)
def test_bad_input_has_an_error_of_its_own(place: Place, arguments: list[str], code: int, message: str) -> None:
    filled = [word.format(repo=place.repo, folder=place.folder) for word in arguments]
    if filled[0] == "fix" and "--sandbox" not in filled:
        filled += ["--sandbox", "none"]
    done = place.agent(*filled)
    assert (done.code, message in done.err + done.out) == (code, True), done.err + done.out
    assert "Traceback" not in done.err
    assert git(place.repo, "status", "--porcelain") == ""


def test_a_repository_from_elsewhere_builds_nothing_unasked(place: Place) -> None:
    write(place.repo, {".patchwright.toml": '[sandbox]\nsetup = "curl evil"\n'})
    commit(place.repo)
    with served(fixing_turns()) as model:
        done = place.agent("fix", f"file://{place.repo}", ISSUE, "--model", model.url, "--sandbox", "bubblewrap")
    assert (done.code, "allow it with --allow-build" in done.out) == (6, True), done.err + done.out


def test_a_dirty_work_tree_is_refused_and_can_be_allowed(place: Place) -> None:
    write(place.repo, {"calc/__init__.py": "half done\n"})
    with served(fixing_turns()) as model:
        assert "uncommitted changes (calc/__init__.py)" in place.fix(model.url).err
        assert not (place.folder / "home/runs").exists() or not any((place.folder / "home/runs").iterdir())
        assert place.fix(model.url, "--allow-dirty").code == 0
    assert (place.repo / "calc/__init__.py").read_text() == "half done\n"


def test_model_faults_are_ridden_out(place: Place) -> None:
    turns = fixing_turns()
    turns[0]["faults"] = [{"kind": "http", "status": 500, "times": 1}]
    turns[2]["faults"] = [{"kind": "cut", "tokens": 7, "times": 2}]
    turns[3]["faults"] = [{"kind": "http", "status": 503, "times": 1}]
    with served(turns) as model:
        done = place.fix(model.url)
    assert done.code == 0, done.err + done.out[-2000:]
    assert len(done.of_type("model_retry")) == 4
    assert FIX in place.patch()


def test_the_command_line_leaves_nothing_behind(place: Place) -> None:
    before = set(Path("/tmp").glob("patchwright*"))
    with served(fixing_turns()) as model:
        place.fix(model.url)
    left = subprocess.run(["pgrep", "-f", str(place.folder)], capture_output=True, text=True).stdout
    assert left == ""
    assert {path for path in Path("/tmp").glob("patchwright*") if place.run_folder.name in path.name} <= before
