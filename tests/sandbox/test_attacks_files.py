"""Hostile files against the file calls: none leads out, none hangs, none is taken for something else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandbox.base import FileKind, FileProblem
from sandbox.machine import MAX_READ, GuestSandbox
from tests.sandbox.inside import SECRET, host_peak, member, python, tar_of

pytestmark = pytest.mark.heavy

CALLS: dict[str, Callable[[GuestSandbox, str], Awaitable[object]]] = {
    "read": lambda cell, path: cell.read(path),
    "stat": lambda cell, path: cell.stat(path + "/."),
    "list": lambda cell, path: cell.list(path, depth=3),
    "write": lambda cell, path: cell.write(path, b"overwritten"),
    "write below": lambda cell, path: cell.write(path + "/planted", b"overwritten"),
    "unpack": lambda cell, path: cell.unpack(tar_of((member("planted"), b"x")), path),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host that everybody may read and write: only the border keeps the sandbox off it."""
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    for path in (folder / "secret", folder / "deep" / "secret"):
        path.write_text(SECRET)
        path.chmod(0o666)
    for path in (folder, folder / "deep"):
        path.chmod(0o777)
    tmp_path.chmod(0o755)
    return folder


def untouched(outside: Path) -> bool:
    found = sorted(path.relative_to(outside).as_posix() for path in outside.rglob("*"))
    texts = {path.read_text() for path in outside.rglob("secret")}
    return found == ["deep", "deep/secret", "secret"] and texts == {SECRET}


# ---------------------------------------------------------------- ways out


@pytest.mark.parametrize("call", CALLS)
async def test_no_file_call_leads_to_the_host(cell: GuestSandbox, outside: Path, call: str) -> None:
    up = "../" * 12
    script = f"""ln -s {outside} folder; ln -s {outside}/secret file; mkdir -p a/b; ln -s {up}{outside} a/b/up
    ln -s folder/deep chain; ln -s /proc/1/root root; ln -s /proc/self/cwd/{up} cwd; ln -s /proc/self/fd fd"""
    await cell.run(script)
    ways = ["folder", "file", "a/b/up", "chain", f"{up}{outside}", f"a/../{up}{outside}/./deep/..", str(outside)]
    ways += [f"root{outside}", f"cwd{outside}", f"fd/0{outside}", f"/proc/1/root{outside}", f"/proc/1/cwd{outside}"]
    ways += [f"/proc/{cell.facts['pid']}/root{outside}", f"/proc/self/root/{up}{outside}/secret"]
    for way in ways:
        try:
            answer = await CALLS[call](cell, way)
        except FileProblem:
            answer = None
        assert SECRET not in str(answer), way
    assert untouched(outside)


@pytest.mark.parametrize("path", ["/etc", "/usr/lib", "/proc/1", "/proc/sys/kernel", "/sys", "/dev", "/"])
async def test_nothing_is_put_where_commands_could_not_write(cell: GuestSandbox, path: str) -> None:
    await cell.run(f"ln -s {path} link")
    up = "../" * 12
    for way in (path, "link", f"{up.rstrip('/')}{path}"):
        with pytest.raises(FileProblem):
            await cell.write(f"{way}/planted-here", b"x")
        with pytest.raises(FileProblem):
            await cell.unpack(tar_of((member("planted-here"), b"x")), way)
    assert b"No such file" in (await cell.run(["ls", f"{path}/planted-here"])).output


@pytest.mark.parametrize("link", ["ln -s {outside} folder", "mkdir folder; ln -s {outside}/deep folder/deep"])
async def test_what_links_point_to_is_in_no_snapshot_list_or_fingerprint(
    box: GuestSandbox, tmp_path: Path, link: str
) -> None:
    outside = tmp_path / "outside"
    await box.run(f"mkdir -p {outside}/deep; echo one >{outside}/deep/secret; {link.format(outside=outside)}")
    before = await box.fingerprint()
    assert not [info.path for info in await box.list(".", depth=9) if "secret" in info.path]
    await box.run(f"echo two and more >{outside}/deep/secret; touch {outside}/new")
    assert await box.fingerprint() == before
    async with await box.fork() as fork:
        kinds = [info.kind for info in await fork.list(".", depth=9)]
        assert kinds.count(FileKind.SYMLINK) == 1
        assert FileKind.FILE not in kinds
        if box.kind != "none":
            assert (await fork.run("cat folder/secret folder/deep/secret")).output.count(b"No such file") == 2


SWAPPER = """import os, shutil, sys, time
def make():
    for name in ("real", "name", "link"):
        shutil.rmtree(name, ignore_errors=True)
        if os.path.lexists(name): os.unlink(name)
    os.mkdir("real"); open("real/secret", "w").write("own"); os.symlink(sys.argv[1], "link")
end, there = time.monotonic() + 60, False
while time.monotonic() < end:
    try:  # there, then gone, then another thing of the same name
        if not there: make()
        there = True
        for old, new in (("real", "name"), ("name", "real"), ("link", "name"), ("name", "link")): os.rename(old, new)
    except OSError: there = False  # a call put something there, maybe while it was being made
"""


async def test_links_that_are_swapped_while_a_call_runs(cell: GuestSandbox, outside: Path) -> None:
    await cell.write("swapper.py", SWAPPER.encode())
    running = asyncio.create_task(cell.run(["python3", "swapper.py", str(outside)], timeout=55))
    answers: list[object] = []
    started = time.monotonic()
    # A slow machine gets the time that it needs to hit the right moment once: with "own" seen, the race was run.
    while (spent := time.monotonic() - started) < 4 or (b"own" not in answers and spent < 50):
        for name, call in CALLS.items():
            try:
                answers.append(await call(cell, "name/secret" if name in ("read", "stat", "write") else "name"))
            except FileProblem:
                continue
        await cell.fingerprint()
    assert not running.done(), running.result().output
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert b"own" in answers
    assert SECRET not in str(answers)
    assert untouched(outside)
    assert (await cell.run("echo alive")).output == b"alive\n"


# ---------------------------------------------------------------- calls that would wait


@pytest.mark.parametrize("call", [*CALLS, "fingerprint", "snapshot"])
async def test_no_file_call_waits_for_a_pipe_device_or_socket(box: GuestSandbox, call: str) -> None:
    await box.run("mkfifo fifo; ln -s fifo to-fifo; ln -s /dev/zero zero; ln -s /dev/ptmx ptmx; ln -s /dev/stdin in")
    await python(box, "import socket; socket.socket(socket.AF_UNIX).bind('socket')")
    started = time.monotonic()
    if call == "fingerprint":
        assert await box.fingerprint()
    elif call == "snapshot":
        assert await box.snapshot()
    else:
        for name in ("fifo", "to-fifo", "zero", "ptmx", "in", "socket", "/dev/random", "/dev/tty", "/proc/self/fd/0"):
            if box.kind == "none" and call.startswith(("write", "unpack")) and name not in ("fifo", "socket"):
                continue  # as root and without walls it would do so
            try:
                await CALLS[call](box, name)
            except FileProblem:
                continue
            assert call in ("write", "stat"), f"{name} is no file"
            if call == "write":
                await box.run(["rm", "-f", name])
    assert time.monotonic() - started < 10
    assert (await box.run("echo alive")).output == b"alive\n"


async def test_no_file_of_proc_hangs_or_ends_the_guest(cell: GuestSandbox) -> None:
    names = (
        await cell.run(f"cd /proc; ls -d $PWD/* {cell.facts['pid']}/* self/* self/*/* sys/kernel/* sys/fs/*")
    ).output
    found = [name for name in names.decode().split() if not name.split("/")[-1].isdigit()]
    assert len(found) > 150
    reads = [name for name in found if "kpage" not in name]
    started = time.monotonic()
    for name in reads:
        path = name if name.startswith("/") else f"/proc/{name}"
        try:
            await cell.read(path, limit=4096)
            await cell.read(path, offset=1 << 40, limit=10)
        except FileProblem:
            continue
    assert time.monotonic() - started < 30
    for name in ("self/mem", "self/oom_score_adj", "self/comm", f"{cell.facts['pid']}/mem", "sys/kernel/hostname"):
        with pytest.raises(FileProblem):
            await cell.write(f"/proc/{name}", b"0")
    assert (await cell.run("echo alive")).output == b"alive\n"


LEASE = """import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, lambda *a: None)
fd = os.open("leased", os.O_RDWR | os.O_CREAT); os.write(fd, b"x" * 100)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True); end = time.monotonic() + 20
while time.monotonic() < end: time.sleep(0.1)
"""


async def test_a_lease_on_a_file_holds_nobody_up(box: GuestSandbox) -> None:
    await box.write("lease.py", LEASE.encode())
    held = await box.run("python3 lease.py >held 2>&1 & for i in $(seq 50); do test -s held && break; sleep 0.1; done")
    if b"held" not in await box.read("held"):
        pytest.skip("this file system has no leases")
    started = time.monotonic()
    for call in ("read", "stat", "list"):
        try:
            await CALLS[call](box, "leased")
        except FileProblem:
            continue
    await box.fingerprint()
    try:
        await box.snapshot()
    except FileProblem as problem:
        assert problem.errno_name in ("EAGAIN", "EWOULDBLOCK")  # a kind that copies can't; others can
    assert time.monotonic() - started < 10
    await box.run(["kill", *map(str, held.still_running)])


FIFO_SWAPPER = """import os, time
end = time.monotonic() + 60
os.makedirs("d", exist_ok=True); os.mkfifo("pipe")
while time.monotonic() < end:
    for n in range(40):
        with open("x", "w") as f: f.write("x")
        os.rename("x", "d/%d" % n)
    for n in range(40):
        os.link("pipe", "p"); os.rename("p", "d/%d" % n)
"""


async def test_files_that_become_pipes_under_a_snapshot(box: GuestSandbox) -> None:
    await box.write("swapper.py", FIFO_SWAPPER.encode())
    running = asyncio.create_task(box.run(["python3", "swapper.py"], timeout=5))
    await asyncio.sleep(0.5)
    while not running.done():
        started = time.monotonic()
        try:
            await box.snapshot()
        except FileProblem:
            pass
        assert time.monotonic() - started < 10


# ---------------------------------------------------------------- sizes, depths, numbers


async def test_a_sparse_file_costs_nothing(box: GuestSandbox) -> None:
    size = 10 << 40
    await box.run(f"truncate -s {size} sparse; printf end >>sparse")
    if (await box.stat("sparse")).size < size:
        pytest.skip("this file system has no files of that size")
    started = time.monotonic()
    before = host_peak()
    with pytest.raises(FileProblem, match=f"larger than {MAX_READ}"):
        await box.read("sparse")
    assert await box.read("sparse", offset=size - 1, limit=10) == b"\0end"
    assert [info.size for info in await box.list(".")] == [size + 3]
    assert await box.fingerprint()
    assert time.monotonic() - started < 3
    assert host_peak() - before < 32 << 10, "KiB of this process"
    await box.write("sparse", b"small")
    assert await box.read("sparse") == b"small"


@pytest.mark.parametrize("number", [1 << 62, (1 << 63) - 1, 1 << 63, 1 << 70, -1])
async def test_numbers_that_no_file_has(box: GuestSandbox, number: int) -> None:
    await box.write("f", b"x")
    try:
        assert await box.read("f", offset=number, limit=1) == b""
    except FileProblem:
        pass
    assert (await box.run("echo alive")).output == b"alive\n"


async def test_a_tree_as_deep_as_it_gets(box: GuestSandbox) -> None:
    script = """import os
for n in range(3000): os.mkdir("d"); os.chdir("d")
open("f", "w").close()"""
    await python(box, script)
    assert len(await box.list(".", depth=5000, limit=5000)) > 500
    assert await box.fingerprint()
    try:
        await box.snapshot()
    except FileProblem as problem:
        assert problem.errno_name == "ENAMETOOLONG"  # for a kind that copies by name
    assert (await box.run("echo alive")).output == b"alive\n"
    await box.close()  # which must clear it away


# ---------------------------------------------------------------- names


FRAME = b"\x01\x01\x01\x01\x01\x01\x01\x01" + b'{"id":1,"exit_code":0,"head":0}'
NAMES = [
    b"new\nline", b"\n",  b"\x1b[2J\x1b]0;title\x07", b"\xff\xfe", b"\xc3", b"-rf", b"--", b" ", b"\r", b"\t",
    b"'\"`$(id)",
    b"x" * 255, b"\xc3\xa4" * 127, b"\xf0\x9f\x98\x80", b"\xe2\x80\xae" + b"fdp.exe", b"*", b"%s%n", b"\x7f\x80", FRAME,
    b"\\udcff", b"...", b"~", b"a:b", b"{}", b"null",
]  # fmt: skip


async def test_hostile_names_in_every_listing(box: GuestSandbox) -> None:
    tops = [os.fsdecode(name) for name in NAMES]
    await box.unpack(tar_of(*((member(f"odd/{top}/{top}"), os.fsencode(top)) for top in tops)))
    listed = await box.list("odd", depth=2)
    below = f"{box.workdir}/odd/"
    assert {info.path.removeprefix(below) for info in listed} == {*tops, *(f"{top}/{top}" for top in tops)}
    for top in tops:
        path = f"{below}{top}/{top}"
        assert (await box.stat(path)).size == len(os.fsencode(top))
        assert await box.read(path) == os.fsencode(top)
        await box.write(path, b"new")
        assert (await box.run(["cat", path])).output == b"new"
        assert (await box.run(["cat", "--", top], cwd=f"{below}{top}")).output == b"new"
    before = await box.fingerprint()
    async with await box.fork() as fork:
        assert {info.path for info in await fork.list("odd", depth=2)} == {
            info.path.replace(box.workdir, fork.workdir, 1) for info in listed
        }
        assert await fork.read(f"odd/{tops[0]}/{tops[0]}") == b"new"
    await box.run("rm -r -- odd/*'\n'*")
    assert await box.fingerprint() != before


async def test_a_session_in_a_folder_with_a_hostile_name(box: GuestSandbox) -> None:
    for name in NAMES:
        text = os.fsdecode(name)
        await box.unpack(tar_of((member(f"odd/{text}/f"), name)))
        quoted = "'" + text.replace("'", "'\\''") + "'"
        result = await box.run(f"cd odd; cd -- {quoted}; export NAME={quoted}", keep_session=True)
        assert result.cwd == f"{box.workdir}/odd/{text}"
        result = await box.run('cat f; printf %s "$NAME"', keep_session=True)
        assert result.output == name * 2
        await box.run(f"cd {box.workdir}; unset NAME", keep_session=True)


# ---------------------------------------------------------------- git


async def test_no_file_call_runs_what_a_repository_names(box: GuestSandbox, tmp_path: Path) -> None:
    """Hooks, pagers, monitors and filters of a checkout run when somebody calls git in it; our calls never do."""
    ran = f"touch {tmp_path}/ran"
    config = "".join(f"[core]\n\t{key} = {ran}\n" for key in ("fsmonitor", "pager", "editor", "sshCommand", "askPass"))
    config += (
        f'[core]\n\thooksPath = hooks\n[diff]\n\texternal = {ran}\n[filter "x"]\n\tclean = {ran}\n\tsmudge = {ran}\n'
    )
    hooks = ("post-checkout", "pre-commit", "post-index-change", "fsmonitor-watchman", "reference-transaction")
    await box.run(f"mkdir -p {tmp_path}; git init -q . && echo '* filter=x' >.gitattributes && echo x >f")
    await box.unpack(tar_of(*((member(f"hooks/{hook}", mode=0o755), f"#!/bin/sh\n{ran}\n".encode()) for hook in hooks)))
    await box.write(".git/config", config.encode())
    await box.fingerprint()
    await box.list(".", depth=5)
    await box.stat(".git/config")
    await box.write(".git/HEAD", b"ref: refs/heads/main\n")
    async with await box.fork() as fork:
        await fork.fingerprint()
        assert b"fsmonitor" in await fork.read(".git/config")
        assert (await fork.run(["ls", f"{tmp_path}/ran"])).exit_code != 0
    assert (await box.run(["ls", f"{tmp_path}/ran"])).exit_code != 0
    assert not (tmp_path / "ran").exists()
    assert (await box.run("git init -q . ; git status", timeout=20)).end == "exited"
    assert (await box.run(["ls", f"{tmp_path}/ran"])).exit_code == 0, "the trap works"
