"""What every kind of sandbox does the same: commands, sessions, files, snapshots, life and death."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import tarfile
import time

import pytest

from sandbox.base import CommandEnd, FileKind, FileProblem, SandboxDied
from sandbox.machine import GuestSandbox

# ---------------------------------------------------------------- commands


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
    import hashlib

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


# ---------------------------------------------------------------- deadlines


async def test_a_deadline_ends_the_whole_group(box: GuestSandbox) -> None:
    started = time.monotonic()
    result = await box.run("echo started; sleep 4321 & sleep 4321; echo never", timeout=0.5)
    assert result.end is CommandEnd.TIMEOUT
    assert result.exit_code == 124
    assert result.output == b"started\n"
    assert result.still_running == ()
    assert time.monotonic() - started < 10
    assert (await _count(box, "sleep 4321")) == 0


async def test_a_process_that_ignores_term_is_killed(box: GuestSandbox) -> None:
    result = await box.run("trap '' TERM HUP INT; while :; do sleep 0.1; done", timeout=0.3)
    assert result.end is CommandEnd.TIMEOUT
    assert result.seconds < 10
    assert (await _count(box, "sleep 0.1")) == 0


async def test_a_daemon_that_forks_twice_ends_at_the_deadline(box: GuestSandbox) -> None:
    daemon = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(4322)"
    await box.write("daemon.py", daemon.encode())
    result = await box.run("python3 daemon.py; sleep 4323", timeout=1.5)
    assert result.end is CommandEnd.TIMEOUT
    assert (await _count(box, "daemon.py")) == 0


async def test_a_stopped_process_is_ended_too(box: GuestSandbox) -> None:
    result = await box.run("kill -STOP $$", timeout=0.5)
    assert result.end is CommandEnd.TIMEOUT


async def test_no_output_for_too_long(box: GuestSandbox) -> None:
    result = await box.run("echo a; sleep 4324", timeout=60, idle_timeout=0.7)
    assert (result.end, result.output) == (CommandEnd.IDLE, b"a\n")
    talkative = await box.run("for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done", idle_timeout=1.5)
    assert talkative.end is CommandEnd.EXITED


async def test_background_children_are_named_and_not_waited_for(box: GuestSandbox) -> None:
    started = time.monotonic()
    result = await box.run("sleep 4325 & sleep 4325 >/dev/null 2>&1 & setsid sleep 4325 & echo done")
    assert time.monotonic() - started < 5
    assert result.end is CommandEnd.EXITED
    assert result.output == b"done\n"
    assert len(result.still_running) == 3
    assert (await _count(box, "sleep 4325")) == 3
    names = await box.run(["cat", *(f"/proc/{pid}/comm" for pid in result.still_running)])
    assert names.output == b"sleep\n" * 3
    assert (await box.run("true")).still_running == (), "they belong to the command that started them"
    await box.run(["kill", *map(str, result.still_running)])
    await asyncio.sleep(0.2)
    assert (await _count(box, "sleep 4325")) == 0


async def test_a_chatty_background_child_does_not_block(box: GuestSandbox) -> None:
    result = await box.run("(while :; do echo noise; sleep 0.01; done) & echo done")
    assert result.still_running
    await asyncio.sleep(0.5)
    assert (await box.run(["kill", "-0", str(result.still_running[0])])).exit_code == 0, "it must not die of SIGPIPE"
    await box.run(["kill", *map(str, result.still_running)])


async def test_several_commands_at_once(box: GuestSandbox) -> None:
    started = time.monotonic()
    results = await asyncio.gather(*(box.run(f"sleep 1; echo {i}") for i in range(8)))
    assert [int(result.output) for result in results] == list(range(8))
    assert time.monotonic() - started < 6


async def test_commands_at_once_keep_their_own_processes(box: GuestSandbox) -> None:
    slow = asyncio.create_task(box.run("sleep 4326", timeout=2))
    quick = await box.run("sleep 4327 & echo quick")
    assert len(quick.still_running) == 1
    assert (await slow).end is CommandEnd.TIMEOUT
    assert (await _count(box, "sleep 4327")) == 1, "another command's deadline is not this one's"
    await box.run(["kill", str(quick.still_running[0])])


async def test_cancelling_a_call_ends_its_command(box: GuestSandbox) -> None:
    task = asyncio.create_task(box.run("sleep 4328"))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(50):
        if (await _count(box, "sleep 4328")) == 0:
            break
        await asyncio.sleep(0.1)
    assert (await _count(box, "sleep 4328")) == 0
    assert (await box.run("echo alive")).output == b"alive\n"


async def _count(box: GuestSandbox, words: str) -> int:
    """How many live processes in the work folder have these words in their command line.

    The folder tells them apart from those of another sandbox: without isolation, everybody's are in sight.
    """
    script = (
        "import os,sys\nn=0\n"
        "for p in os.listdir('/proc'):\n"
        "  if not p.isdigit() or int(p)==os.getpid(): continue\n"
        "  try:\n"
        "    if os.readlink('/proc/'+p+'/cwd') != os.getcwd(): continue\n"
        "    s=open('/proc/'+p+'/stat').read().rpartition(')')[2].split()[0]\n"
        "    n+= s not in 'ZX' and sys.argv[1].replace(' ',chr(0)) in open('/proc/'+p+'/cmdline').read()\n"
        "  except OSError: pass\n"
        "print(n)"
    )
    return int((await box.run(["python3", "-c", script, words])).output)


# ---------------------------------------------------------------- sessions


async def test_folder_and_exports_are_carried(box: GuestSandbox) -> None:
    await box.run("mkdir -p a/b; cd a/b; export KEPT=$'new\\nline \"q\" \\'s\\''; NOT_KEPT=1", keep_session=True)
    result = await box.run('pwd; printf %s "$KEPT"; echo "[$NOT_KEPT]"', keep_session=True)
    assert result.output.decode() == f"{box.workdir}/a/b\nnew\nline \"q\" 's'[]\n"
    assert result.cwd == f"{box.workdir}/a/b"
    outside = await box.run("pwd; echo $KEPT")
    assert outside.output.decode().split() == [box.workdir], "other calls don't see the session"


@pytest.mark.parametrize(
    "script",
    [
        "cd sub; export V=1; exit 3",
        "set -e; cd sub; export V=1; false; echo never",
        "set -eu; cd sub; export V=1; echo $undefined_variable",
        "cd sub; export V=1; trap 'echo bye' EXIT",
        "cd sub; export V=1; function exit() { :; }; true",
        "cd sub; export V=1; echo 'it'\"'\"'s'; (cd /; exit 9)",
        "cd sub\nexport V=1\n# a comment at the end",
        "cd sub && export V=1; cat <<E\nheredoc $V\nE",
    ],
)
async def test_a_session_survives_how_the_script_ends(box: GuestSandbox, script: str) -> None:
    await box.run("mkdir sub")
    await box.run(script, keep_session=True)
    result = await box.run('pwd; echo "V=$V"', keep_session=True)
    assert result.output.decode() == f"{box.workdir}/sub\nV=1\n"


async def test_status_in_a_session(box: GuestSandbox) -> None:
    for script, status in [("exit 3", 3), ("false", 1), ("true", 0), ("(exit 9)", 9), ("if", 2), ("set -e; false", 1)]:
        result = await box.run(script, keep_session=True)
        assert result.exit_code == status or (script == "if" and result.exit_code in (1, 2)), script


async def test_unset_exec_and_call_variables_in_a_session(box: GuestSandbox) -> None:
    await box.run("export A=1 B=2; unset PAGER", keep_session=True)
    await box.run("cd /; unset A; exec true", keep_session=True)
    result = await box.run("echo $A,$B,$PAGER,$C; pwd", keep_session=True, env={"C": "3 '"})
    assert result.output.decode() == f"1,2,,3 '\n{box.workdir}\n", "a script that replaces the shell carries nothing"
    await box.run("cd sub 2>/dev/null || mkdir sub && cd sub && mkdir x && cd x", keep_session=True)
    assert (await box.run('cd - >/dev/null; basename "$PWD"', keep_session=True)).output == b"sub\n"


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "",
        "a\\b\\\\c\\",
        '$HOME `id` "q" \\" !x',
        "tab\tand\nline",
        '\ndeclare -x STOLEN="1"\n: end',
        "ä€\U0001f600",
        "\x7f\x01",
        "x" * 50_000,
    ],
)
async def test_values_are_carried_exactly(box: GuestSandbox, value: str) -> None:
    quoted = "'" + value.replace("'", "'\\''") + "'"
    await box.run(f"export VALUE={quoted} OTHER='a b'", keep_session=True)
    for _ in range(2):
        result = await box.run('printf %s "$VALUE"', keep_session=True, max_output=100_000)
        assert result.output.decode() == value
    result = await box.run("printenv VALUE | wc -c; printenv OTHER STOLEN SHLVL", keep_session=True)
    level = "1\n" if b"bash" in (await box.run("echo $BASH")).output else ""
    assert result.output.decode() == f"{len(value.encode()) + 1}\na b\n{level}"


async def test_variables_that_only_a_shell_can_carry(box: GuestSandbox) -> None:
    await box.run(
        "echo 'echo started' >rc; export BASH_ENV=$PWD/rc IFS=:; declare -rx FIXED=1; declare -ix SUM=2; export EMPTY",
        keep_session=True,
    )
    result = await box.run("SUM+=3; echo $SUM; bash -c 'echo $FIXED'; export A=b:c", keep_session=True)
    assert result.output.decode().splitlines() == ["5", "started", "1"]
    assert (await box.run("printf '%s,' $A; unset BASH_ENV", keep_session=True)).output == b"b,c,"


async def test_a_session_whose_folder_is_gone(box: GuestSandbox) -> None:
    await box.run("mkdir gone; cd gone", keep_session=True)
    await box.run("rmdir gone")
    result = await box.run("pwd", keep_session=True)
    assert b"is gone" in result.output
    assert result.output.decode().endswith(f"{box.workdir}\n")


async def test_a_session_after_a_deadline(box: GuestSandbox) -> None:
    await box.run("cd /; export A=1", keep_session=True)
    await box.run("export A=2; sleep 4329", keep_session=True, timeout=0.5)
    assert (await box.run("pwd", keep_session=True)).output == b"/\n"


# ---------------------------------------------------------------- files


async def test_write_and_read(box: GuestSandbox) -> None:
    data = bytes(range(256)) * 3 + b"\r\nline\r\n"
    await box.write("new/deep/file.bin", data)
    assert await box.read("new/deep/file.bin") == data
    assert await box.read(f"{box.workdir}/new/deep/file.bin", offset=250, limit=10) == data[250:260]
    assert await box.read("new/deep/file.bin", offset=10_000) == b""
    assert await box.read("new/deep/file.bin", limit=0) == b""
    await box.write("empty", b"")
    assert await box.read("empty") == b""
    assert (await box.run("ls -A new/deep")).output == b"file.bin\n", "no temporary file stays"


async def test_modes_and_links_are_kept(box: GuestSandbox) -> None:
    await box.run("echo a >run.sh; chmod 750 run.sh; ln -s run.sh link; mkdir d")
    await box.write("run.sh", b"b")
    assert (await box.stat("run.sh")).mode == 0o750
    await box.write("link", b"c")
    assert (await box.stat("link")).kind is FileKind.SYMLINK
    assert await box.read("run.sh") == b"c"
    await box.write("x", b"", mode=0o711)
    assert (await box.stat("x")).mode == 0o711
    assert (await box.stat("d")).kind is FileKind.DIRECTORY
    await box.write("plain", b"")
    assert (await box.stat("plain")).mode == 0o644


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda box: box.read("missing"), "ENOENT"),
        (lambda box: box.read("."), "EISDIR"),
        (lambda box: box.read("fifo"), "EINVAL"),
        (lambda box: box.read("/dev/zero"), "EINVAL"),
        (lambda box: box.read("zero\0byte"), "EINVAL"),
        (lambda box: box.write(".", b"x"), "EISDIR"),
        (lambda box: box.write("file/below", b"x"), "ENOTDIR"),
        (lambda box: box.write("loop1", b"x"), "ELOOP"),
        (lambda box: box.stat("missing"), "ENOENT"),
        (lambda box: box.list("missing"), "ENOENT"),
        (lambda box: box.list("file"), "ENOTDIR"),
        (lambda box: box.read("x" * 300), "ENAMETOOLONG"),
    ],
)
async def test_file_calls_that_cannot_be_done(box: GuestSandbox, call, name: str) -> None:  # type: ignore[no-untyped-def]
    await box.run("mkfifo fifo; echo x >file; ln -s loop1 loop2; ln -s loop2 loop1")
    with pytest.raises(FileProblem) as caught:
        await call(box)
    assert caught.value.errno_name == name or (name == "ENOTDIR" and caught.value.errno_name in ("ENOTDIR", "EEXIST"))
    assert (await box.run("echo fine")).output == b"fine\n"


async def test_hostile_names(box: GuestSandbox) -> None:
    names = ["new\nline", "quote'\"", " space ", "-dash", "umlaut ä", "\udcff\udcfe", "tab\t", "back\\slash"]
    for name in names:
        await box.write(f"odd/{name}", name.encode("utf-8", "surrogateescape"))
    listed = await box.list("odd")
    assert sorted(info.path.rpartition("/")[2] for info in listed) == sorted(names)
    for info in listed:
        assert await box.read(info.path) == info.path.rpartition("/")[2].encode("utf-8", "surrogateescape")
        assert info.kind is FileKind.FILE


async def test_listing(box: GuestSandbox) -> None:
    await box.run("mkdir -p b/c/d; touch a b/x b/c/y b/c/d/z b-1; ln -s / b/root")

    async def names(depth: int, limit: int = 1000) -> list[str]:
        found = await box.list(".", depth=depth, limit=limit)
        return [info.path.removeprefix(box.workdir + "/") for info in found]

    assert await names(1) == ["a", "b", "b-1"]
    assert await names(2) == ["a", "b", "b/c", "b/root", "b/x", "b-1"]
    assert await names(3, 4) == ["a", "b", "b/c", "b/c/d"]
    kinds = {info.path: info.kind for info in await box.list(".", depth=2)}
    assert kinds[f"{box.workdir}/b/root"] is FileKind.SYMLINK


async def test_a_large_file(box: GuestSandbox) -> None:
    data = os.urandom(1 << 20) * 100
    await box.write("large", data)
    assert (await box.stat("large")).size == len(data)
    assert await box.read("large") == data


async def test_fingerprint_sees_every_touch(box: GuestSandbox) -> None:
    await box.run("mkdir -p src/deep .git; echo a >src/deep/f; ln -s f src/link")
    seen = {await box.fingerprint()}
    assert await box.fingerprint() in seen
    await box.run("echo x >.git/index")
    assert await box.fingerprint() in seen, ".git is left out"
    for change in (
        "echo b >src/deep/f",
        "touch src/deep/f",
        "touch -d @0 src/deep/f",
        "chmod 600 src/deep/f",
        "ln -sfn g src/link",
        "mv src/deep/f src/deep/g",
        "mkdir new",
        "rm -r src",
    ):
        await box.run(change)
        now = await box.fingerprint()
        assert now not in seen, change
        seen.add(now)


async def test_the_fingerprint_after_a_session_command_is_that_of_now(box: GuestSandbox) -> None:
    await box.run("echo a >f", keep_session=True)
    first = await box.fingerprint()  # this one came with the answer ...
    assert await box.fingerprint() == first, "... and this one was asked for"
    await box.run("true", keep_session=True)
    await box.write("f", b"other")
    second = await box.fingerprint()
    assert second != first
    await box.run("(sleep 0.3; echo b >g) & true", keep_session=True)
    await asyncio.sleep(1.0)
    assert await box.fingerprint() != second, "what came with an answer gets old"


# ---------------------------------------------------------------- tars, snapshots, forks


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, 1_000_000_000
    return info


async def test_unpack(box: GuestSandbox) -> None:
    tar = tar_of(
        (member("./dir", tarfile.DIRTYPE, mode=0o755), b""),
        (member("dir/run", mode=0o4755), b"#!/bin/sh\necho ran\n"),
        (member("no/parents/named"), b"x"),
        (member("link", tarfile.SYMTYPE, link="dir/run"), b""),
        (member("hard", tarfile.LNKTYPE, link="dir/run"), b""),
        (member("dangling", tarfile.SYMTYPE, link="/nowhere/at/all"), b""),
    )
    await box.unpack(tar)
    assert (await box.run("./link && ./hard && cat no/parents/named")).output == b"ran\nran\nx"
    info = await box.stat("dir/run")
    assert (info.mode, info.mtime_ns) == (0o755, 10**18), "no set-user-id bit, the time kept"
    assert (await box.run("id -u; stat -c %u dir/run")).output.split()[0] in (await box.run("id -u")).output
    await box.unpack(tar_of((member("f"), b"f")), "not/there/yet")
    assert await box.read("not/there/yet/f") == b"f"
    await box.unpack(tar, "other")
    assert await box.read("other/no/parents/named") == b"x"
    await box.unpack(tar)
    assert (await box.run("./link")).output == b"ran\n", "unpacking over what is there"


@pytest.mark.parametrize(
    "members",
    [
        [(member("../out"), b"x")],
        [(member("/tmp/out"), b"x")],
        [(member("a/../../out"), b"x")],
        [(member("dir", tarfile.SYMTYPE, link="/tmp"), b""), (member("dir/out"), b"x")],
        [(member("dir", tarfile.SYMTYPE, link=".."), b""), (member("dir/out"), b"x")],
        [(member("hard", tarfile.LNKTYPE, link="../../etc/passwd"), b"")],
        [(member("hard", tarfile.LNKTYPE, link="/etc/passwd"), b"")],
        [(member("device", tarfile.CHRTYPE), b"")],
        [(member("pipe", tarfile.FIFOTYPE), b"")],
        [(member("up", tarfile.SYMTYPE, link="/etc"), b""), (member("h", tarfile.LNKTYPE, link="up/passwd"), b"")],
    ],
)
async def test_hostile_tars_are_refused(box: GuestSandbox, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with pytest.raises(FileProblem, match=r"the archive (holds|writes)"):
        await box.unpack(tar_of(*members), "into")
    assert (await box.run("ls out ../out /tmp/out into/h into/hard", cwd=".")).output.count(b"No such file") == 5


@pytest.mark.parametrize("data", [b"", b"x" * 10_000, b"\xff" * 512 + b"\0" * 1024])
async def test_what_is_no_tar(box: GuestSandbox, data: bytes) -> None:
    if data:
        with pytest.raises(FileProblem):
            await box.unpack(data)
    assert (await box.run("echo fine")).output == b"fine\n"


async def test_a_link_replaces_and_is_replaced(box: GuestSandbox) -> None:
    await box.unpack(tar_of((member("f", tarfile.SYMTYPE, link="/etc/hostname"), b"")))
    await box.unpack(tar_of((member("f"), b"own")))
    assert await box.read("f") == b"own"
    assert (await box.stat("f")).kind is FileKind.FILE


async def test_snapshot_and_fork(box: GuestSandbox) -> None:
    script = """mkdir -p d/e; echo one >d/e/f; chmod 701 d/e/f; ln -s /usr/bin/env d/l; ln d/e/f d/hard; mkdir empty
    printf x >$'d/odd\\n\\377'; touch -d '2001-02-03 04:05:06.789012345' d/e/f
    mkdir ro; echo r >ro/x; chmod 500 ro; echo s >secret; chmod 0 secret"""
    assert (await box.run(script)).exit_code == 0
    before = "find . -printf '%P %y %m %s %l %T@ %n\\n' | LC_ALL=C sort | grep -v '^ d'"
    state = (await box.run(before)).output
    name = await box.snapshot()
    await box.run("rm -rf d; echo later >later")
    async with await box.fork(name) as fork:
        assert (await fork.run(before)).output == state
        await fork.run("echo only here >mine")
        assert (await box.run("cat mine")).exit_code != 0
        assert fork.kind == box.kind
        assert (await box.run("ls later")).exit_code == 0
    async with await box.fork() as now:
        assert (await now.run("cat later; ls")).output.startswith(b"later\n")
    with pytest.raises(ValueError, match="no snapshot"):
        await box.fork("../../etc/passwd")
    await box.run("chmod 700 ro")


@pytest.mark.heavy
async def test_a_snapshot_that_is_too_large(box: GuestSandbox) -> None:
    await box.run("truncate -s 100G sparse")
    with pytest.raises(FileProblem, match="holds more than"):
        await box.snapshot()
    await box.run("rm sparse; echo x >f")
    async with await box.fork() as fork:
        assert await fork.read("f") == b"x\n"


async def test_a_folder_of_many_long_names(box: GuestSandbox) -> None:
    await box.run("mkdir many; cd many; seq -f '%0240.0f' 1 9000 | xargs touch")
    found = await box.list("many", limit=20_000)
    assert 1000 < len(found) <= 9000
    assert (await box.run("echo alive")).output == b"alive\n"


# ---------------------------------------------------------------- life and death


async def test_closing_twice_and_calls_after_it(box: GuestSandbox) -> None:
    running = asyncio.create_task(box.run("sleep 4330"))
    await asyncio.sleep(0.3)
    await box.close()
    with pytest.raises(SandboxDied, match="closed"):
        await running
    await box.close()
    with pytest.raises(SandboxDied, match="closed"):
        await box.run("true")


async def test_a_guest_that_is_killed(box: GuestSandbox) -> None:
    started = time.monotonic()
    # the guest must be killed from a shell that outlives it for a moment
    with pytest.raises(SandboxDied):
        await box.run(f"kill -9 {box.facts['pid']}; sleep 20", timeout=30)
    assert time.monotonic() - started < 10
    with pytest.raises(SandboxDied, match="ended"):
        await box.read("x")


async def test_the_guest_runs_as_asked(box: GuestSandbox) -> None:
    done = box.facts["done"]
    assert done == {"private": True, "subreaper": True, "no_new_privileges": True, "seccomp": True}
    assert (box.warning is not None) == (box.kind == "none")


async def test_a_caller_that_asks_for_too_much(box: GuestSandbox) -> None:
    with pytest.raises(ValueError, match="bytes; the sandbox takes"):
        await box.run("#" * (9 << 20))
    with pytest.raises(ValueError, match="max_output"):
        await box.run("true", max_output=1 << 30)
