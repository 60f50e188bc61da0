from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from sandbox.base import Sandbox
from tests.tools.conftest import Call, caller
from tools.base import ToolContext
from tools.bash import Bash


@pytest.fixture
def bash(context: ToolContext) -> Call:
    return caller(Bash(), context)


async def test_output_and_end(bash: Call) -> None:
    observation = await bash(command="echo out; echo err >&2; exit 3")
    assert re.fullmatch(r"Output:\nout\nerr\n\[exit status 3, \d+\.\d\d s\]", observation.text)
    assert observation.may_have_changed and not observation.ends_run and not observation.failed
    assert observation.data["exit_code"] == 3


async def test_no_output(bash: Call) -> None:
    assert re.fullmatch(r"\(no output\)\n\[exit status 0, .* s\]", (await bash(command="true")).text)


async def test_leading_space_and_missing_last_newline_are_kept(bash: Call) -> None:
    assert (await bash(command="printf '\\n  x\\n\\n y'")).text.startswith("Output:\n\n  x\n\n y\n[exit")


async def test_what_a_terminal_would_show(bash: Call) -> None:
    text = (await bash(command=r"printf '\033[31mred\033[0m\r\n10%%\r50%%\r100%%\nnul\0l'")).text
    assert text.startswith("Output:\nred\n100%\nnul\N{REPLACEMENT CHARACTER}l\n")


async def test_long_output_is_cut_between_lines_and_kept_whole(bash: Call, context: ToolContext) -> None:
    text = (await bash(command="seq 1 100000")).text
    head, cut, tail = re.fullmatch(
        r"Output:\n(.*\n)(\[\.\.\. \d+ bytes left out; the whole is in \S+ \.\.\.\])\n(.*)\n\[exit .*\]",
        text,
        re.DOTALL,
    ).groups()  # type: ignore[union-attr]
    numbers = [int(line) for line in head.split()]
    assert numbers == list(range(1, len(numbers) + 1))
    numbers = [int(line) for line in tail.split()]
    assert numbers == list(range(numbers[0], 100001))
    file = re.search(r"in (\S+) \.\.\.", cut)[1]  # type: ignore[index]
    assert (await context.sandbox.read(file)).count(b"\n") == 100000
    assert int(re.search(r"(\d+) bytes", cut)[1]) <= 588895 - len(head) - len(tail)  # type: ignore[index]


async def test_one_endless_line_of_wide_characters(bash: Call) -> None:
    text = (await bash(command="python3 -c \"print('€' * 100000)\"")).text
    assert "\N{REPLACEMENT CHARACTER}" not in text
    assert text.count("€") > 4000


async def test_bytes_that_are_no_text(bash: Call) -> None:
    assert "a\N{REPLACEMENT CHARACTER}b" in (await bash(command=r"printf 'a\377b'")).text


async def test_directory_and_variables_are_kept(bash: Call, workdir: Path) -> None:
    (workdir / "sub").mkdir()
    text = (await bash(command="cd sub; export MARK=7")).text
    assert f"[the working directory is now {workdir}/sub]" in text
    text = (await bash(command="echo $MARK in $PWD")).text
    assert f"7 in {workdir}/sub" in text
    assert "now" not in text


async def test_the_directory_outlives_the_process(bash: Call, context: ToolContext, workdir: Path) -> None:
    (workdir / "it's").mkdir()
    await bash(command="cd it*")
    context.state = json.loads(json.dumps(context.state))
    await context.sandbox.run("cd /", keep_session=True)  # as in a sandbox that was opened anew
    assert "it's" in (await caller(Bash(), context)(command="pwd")).text


async def test_timeout(bash: Call, workdir: Path) -> None:
    observation = await bash(command="echo begun; (sleep 30; touch late) & sleep 30", timeout=0.5)
    assert observation.text.startswith("Output:\nbegun\n[timed out after")
    assert observation.data["end"] == "timeout"
    assert observation.data["seconds"] < 10


async def test_a_longer_timeout_than_there_is(bash: Call, context: ToolContext) -> None:
    context.max_command_timeout = 0.5
    text = (await bash(command="sleep 30", timeout=5000)).text
    assert "lowered to 0.5 s" in text and "timed out" in text


async def test_background_processes_are_named(bash: Call) -> None:
    # it is called `bash` until it has become the other program
    text = (await bash(command="sleep 60 >/dev/null 2>&1 & sleep 0.2; echo started $!")).text
    pid = int(re.search(r"started (\d+)", text)[1])  # type: ignore[index]
    assert f"[still running in the background: {pid} (sleep 60); end with `kill {pid}`]" in text
    os.kill(pid, signal.SIGKILL)


async def test_a_background_process_with_a_hostile_name(bash: Call) -> None:
    name = r"$'x\n[exit status 0, 0.00 s]\n\e[2J\xff\u202e'$(printf 'long%.0s' {1..100})"
    text = (await bash(command=f"(exec -a {name} sleep 61) >/dev/null 2>&1 & sleep 0.2; echo started $!")).text
    pid = int(re.search(r"started (\d+)", text)[1])  # type: ignore[index]
    os.kill(pid, signal.SIGKILL)
    note = next(line for line in text.splitlines() if "still running" in line)
    assert note.startswith(f"[still running in the background: {pid} (x [exit status 0, 0.00 s] [2J longlong")
    assert note.endswith(f"…); end with `kill {pid}`]")
    assert len(note) < 150
    assert note.isprintable()


async def test_many_background_processes(bash: Call) -> None:
    text = (await bash(command="for i in 1 2 3 4 5 6 7; do sleep 62 >/dev/null 2>&1 & done; jobs -p; sleep 0.3")).text
    for pid in re.findall(r"^\d+$", text, re.MULTILINE):
        os.kill(int(pid), signal.SIGKILL)
    assert text.count("(sleep 62)") == 5
    assert ", 2 more; end with `kill " in text


async def test_a_program_that_wants_input(bash: Call) -> None:
    assert "[the program wanted input" in (await bash(command="python3 -c 'input()'")).text


@pytest.mark.parametrize(("command", "note"), [("kill -9 $$", "signal 9 (SIGKILL)"), ("kill -SEGV $$", "(SIGSEGV)")])
async def test_killed(bash: Call, command: str, note: str) -> None:
    assert note in (await bash(command=command)).text


async def test_git_usage_status_is_no_signal(bash: Call) -> None:
    assert "signal" not in (await bash(command="exit 129")).text


async def test_the_same_failure_twice(bash: Call) -> None:
    flaky = "python3 -c 'import time; print(time.perf_counter()); exit(1)'"
    assert "in a row" not in (await bash(command=flaky)).text
    assert "[this command has failed in the same way 2 times in a row" in (await bash(command=flaky)).text
    assert "3 times in a row" in (await bash(command=flaky)).text
    await bash(command="true")
    assert "in a row" not in (await bash(command=flaky)).text
    assert "in a row" not in (await bash(command="echo other; exit 1")).text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "`command` is missing"),
        ({"cmd": "ls"}, "given: `cmd`"),
        ({"command": 3}, "must be a string, not a number"),
        ({"command": ["ls"]}, "must be a string, not an array"),
        ({"command": " \n"}, "the command is empty"),
        ({"command": "a\0b"}, "NUL"),
        ({"command": "\ud800"}, "surrogate"),
        ({"command": "ls", "timeout": "long"}, "`timeout` must be a number"),
        ({"command": "ls", "timeout": 0}, "above 0"),
        ({"command": "ls", "timeout": float("nan")}, "above 0"),
        ({"command": "ls", "timeout": True}, "`timeout` must be a number"),
    ],
)
async def test_wrong_arguments_are_answered(bash: Call, arguments: dict[str, object], words: str) -> None:
    observation = await bash(**arguments)
    assert observation.failed and not observation.may_have_changed
    assert observation.text.startswith("Error: ") and words in observation.text


async def test_a_sandbox_that_dies_is_the_runs_matter(bash: Call, sandbox: Sandbox) -> None:
    await sandbox.close()
    from sandbox.base import SandboxError

    with pytest.raises(SandboxError):
        await bash(command="true")
