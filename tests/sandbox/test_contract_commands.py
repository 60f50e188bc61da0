"""What every kind of sandbox does the same: commands, their input, environment and output."""

from __future__ import annotations

import hashlib
import os
import signal
import time

import pytest

from sandbox.base import CommandEnd
from sandbox.machine import GuestSandbox


async def test_argv_and_script(box: GuestSandbox) -> None:
    result = await box.run(["printf", "%s|", "a b", "$HOME", "'"])
    assert (result.exit_code, result.output, result.end) == (0, b"a b|$HOME|'|", CommandEnd.EXITED)
    result = await box.run("echo one; echo two >&2; echo three; (exit 7)")
    assert (result.exit_code, result.output, result.total_bytes) == (7, b"one\ntwo\nthree\n", 14)
    assert result.still_running == ()
    assert result.output_file is None


async def test_where_commands_run(box: GuestSandbox) -> None:
    assert (await box.run("pwd")).output.decode().strip() == box.workdir
    await box.run("mkdir -p sub/deep")
    assert (await box.run("pwd; echo $PWD", cwd="sub/deep")).output.decode().split() == [f"{box.workdir}/sub/deep"] * 2
    missing = await box.run("pwd", cwd="nowhere")
    assert missing.exit_code == 126
    assert b"no folder" in missing.output


async def test_a_command_that_is_not_there(box: GuestSandbox) -> None:
    result = await box.run(["no-such-program", "x"])
    assert result.exit_code == 127
    assert b"no-such-program" in result.output
    assert (await box.run("no-such-program")).exit_code == 127
    assert (await box.run(["/etc"])).exit_code == 126
    assert (await box.run(["echo", "zero\0byte"])).exit_code == 126


async def test_signals_give_their_shell_status(box: GuestSandbox) -> None:
    assert (await box.run("kill -SEGV $$")).exit_code == 128 + signal.SIGSEGV
    assert (await box.run("exit 255")).exit_code == 255


@pytest.mark.parametrize("command", ["read x", "cat", "python3 -c 'input()'", "cat /dev/tty"])
async def test_a_command_that_waits_for_input_ends(box: GuestSandbox, command: str) -> None:
    started = time.monotonic()
    result = await box.run(command, timeout=20)
    assert result.end is CommandEnd.EXITED
    assert time.monotonic() - started < 15


async def test_stdin_is_given_and_closed(box: GuestSandbox) -> None:
    assert (await box.run("cat; echo end", stdin=b"given\0\xff")).output == b"given\0\xffend\n"
    large = os.urandom(1 << 20) * 12
    result = await box.run("sha256sum", stdin=large)
    assert result.output.split()[0].decode() == hashlib.sha256(large).hexdigest()
    unread = await box.run("head -c 5", stdin=large)
    assert unread.output == large[:5]


async def test_environment_of_a_command(box: GuestSandbox) -> None:
    result = await box.run("env -0", env={"ODD": "line\nbreak 'quote'", "GIT_PAGER": "less"})
    found = dict(item.split(b"=", 1) for item in result.output.split(b"\0") if item)
    assert found[b"ODD"] == b"line\nbreak 'quote'"
    assert found[b"GIT_PAGER"] == b"less"
    assert found[b"PAGER"] == b"cat"
    assert found[b"GIT_TERMINAL_PROMPT"] == b"0"
    assert found[b"TERM"] == b"dumb"
    assert b"ODD" not in (await box.run("env")).output


async def test_git_opens_neither_pager_nor_editor(box: GuestSandbox) -> None:
    script = """git init -q . && git config user.email a@b.c && git config user.name n
    git commit -q --allow-empty -m one && git commit --amend --allow-empty && git log
    git rebase -i --root 2>&1 | tail -1"""
    result = await box.run(script, timeout=30)
    assert result.end is CommandEnd.EXITED
    assert b"one" in result.output


async def test_output_keeps_head_and_tail_and_a_file(box: GuestSandbox) -> None:
    result = await box.run("seq 1 100000", max_output=1000)
    whole = b"".join(b"%d\n" % i for i in range(1, 100001))
    assert result.total_bytes == len(whole)
    assert result.head == whole[:500]
    assert result.tail == whole[-500:]
    assert result.dropped_bytes == len(whole) - 1000
    assert b"left out" in result.output
    assert result.output_file is not None
    assert result.output_file_complete
    assert await box.read(result.output_file) == whole


@pytest.mark.parametrize("size", [999, 1000, 1001])
async def test_output_at_the_cap(box: GuestSandbox, size: int) -> None:
    result = await box.run(f"head -c {size} /dev/zero | tr '\\0' x", max_output=1000)
    assert result.total_bytes == size
    assert (result.output_file is None) == (size <= 1000)
    assert len(result.head) + len(result.tail) == min(size, 1000)
    assert (await box.run("echo x", max_output=0)).total_bytes == 2


@pytest.mark.parametrize("script", ["head -c 1G /dev/zero", "yes 'a line of output' | head -c 1G"])
async def test_a_gibibyte_of_output_costs_neither_memory_nor_time(box: GuestSandbox, script: str) -> None:
    started = time.monotonic()
    result = await box.run(script, timeout=100, max_output=10_000)
    assert (result.exit_code, result.total_bytes) == (0, 1 << 30)
    assert time.monotonic() - started < 60
    assert len(result.head) + len(result.tail) == 10_000
    assert result.output_file is not None
    assert not result.output_file_complete
    assert (await box.stat(result.output_file)).size < 16 << 20
    memory = await box.run(f"grep VmHWM /proc/{box.facts['pid']}/status")
    assert int(memory.output.split()[1]) < 100_000, "KiB at the guest's peak"
    text = await box.read(result.output_file, offset=8 << 20, limit=60)
    assert b"left out of this file" in text


async def test_output_that_is_not_text(box: GuestSandbox) -> None:
    result = await box.run(r"printf '\377\376\0\r\nx'")
    assert result.output == b"\xff\xfe\0\r\nx"


async def test_a_script_longer_than_one_argument_may_be(box: GuestSandbox) -> None:
    script = "cat <<'E' | wc -c\n" + "x" * 300_000 + "\nE\n"
    for keep in (False, True):
        assert (await box.run(script, keep_session=keep)).output.strip() == b"300001"
