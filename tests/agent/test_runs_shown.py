"""What `agent runs` says of logs that aren't what they should be, and how little `--help` loads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.runs import runs

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """One run, whose log has a line in it that is none, behind its first events."""
    folder = tmp_path / "home" / "runs" / "one"
    folder.mkdir(parents=True)
    shutil.copy(GOLDEN / "run-2.jsonl", folder / "events.jsonl")
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join([*lines[:12], "{torn\n", *lines[12:]]))
    return tmp_path / "home"


@pytest.mark.parametrize("arguments", [["show", "one"], ["show", "one", "--json"], ["show", "one", "--usage"]])
def test_a_damaged_log_is_shown_as_far_as_it_goes(home: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(runs, arguments, env={"PATCHWRIGHT_HOME": str(home)})
    assert done.exit_code == 6
    assert "events.jsonl, line 13: not an event" in done.stderr and "what stands before is shown" in done.stderr
    assert done.stdout


@pytest.mark.parametrize("gone", [False, True])
def test_the_other_commands_name_the_damage_too(home: Path, tmp_path: Path, gone: bool) -> None:
    if gone:
        (home / "runs" / "one" / "events.jsonl").unlink()
    out = tmp_path / "exported"
    environment = {"PATCHWRIGHT_HOME": str(home)}
    for arguments in (["show", "one"], ["export", "one", "--out", str(out)]):
        done = CliRunner().invoke(runs, arguments, env=environment)
        assert (done.exit_code, done.stderr[:5]) == (6, "Error")
    assert not out.exists()
    for arguments in (["list"], ["metrics"]):
        done = CliRunner().invoke(runs, arguments, env=environment)
        assert done.exit_code == 0


@pytest.mark.parametrize("command", ["fix", "resume", "doctor"])
def test_help_loads_no_event_loop(command: str) -> None:
    code = (
        "import sys; from cli.main import cli\n"
        f"try: cli([{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "print('loaded', 'asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded False"
