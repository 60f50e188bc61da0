"""What every kind of sandbox does the same: going back to a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandbox.base import FileProblem, SandboxDied
from sandbox.choose import open_sandbox
from sandbox.ledger import Ledger
from sandbox.machine import GuestSandbox
from tests.sandbox.kinds import SPEC

STATE = """(find . -mindepth 1 -type d -printf '%P %y %m %T@\\n'
find . ! -type d -printf '%P %y %m %s %l %T@ %n\\n') | LC_ALL=C sort"""  # a folder's own size is the file system's


async def state(box: GuestSandbox) -> bytes:
    return (await box.run(STATE)).output


async def test_everything_is_as_it_was(box: GuestSandbox) -> None:
    script = """git init -q . && git config user.email a@b.c && git config user.name n
    mkdir -p d/e deep/er; echo one >d/e/f; chmod 701 d/e/f; ln -s /usr/bin/env d/l; ln d/e/f d/hard; mkdir empty
    printf x >$'d/odd\\n\\377'; touch -d '2001-02-03 04:05:06.789012345' d/e/f
    mkdir ro; echo r >ro/x; chmod 500 ro; echo s >secret; chmod 0 secret; head -c 1M /dev/urandom >data
    git add d/e/f data && git commit -q -m one"""
    assert (await box.run(script)).exit_code == 0
    head = (await box.run("git rev-parse HEAD; git status --short; cat d/hard")).output
    before = await state(box)
    name = await box.snapshot()
    assert await state(box) == before, "keeping changes nothing"
    change = """chmod 700 ro; rm -rf d ro empty secret; mkdir d; echo new >d/new; echo more >>data; chmod 600 data
    ln -sfn / deep/er; rm -rf deep; ln -s /etc deep; git add -A; git commit -q -m two; echo 1 >.git/new"""
    assert (await box.run(change)).exit_code == 0
    assert await state(box) != before
    await box.restore(name)
    assert await state(box) == before
    assert (await box.run("git rev-parse HEAD; git status --short; cat d/hard")).output == head
    assert (await box.run("git fsck --strict && git log --oneline | wc -l")).output.endswith(b"1\n")
    await box.run("chmod 700 ro")


async def test_back_and_forth(box: GuestSandbox) -> None:
    """Later snapshots stay valid when an earlier one is gone back to, and what comes after starts from there."""
    names = []
    for number in range(4):
        await box.write("n", b"%d" % number)
        await box.write(f"only-{number}", b"x")
        names.append(await box.snapshot())
    for number in (1, 3, 0, 2, 2):
        await box.restore(names[number])
        assert await box.read("n") == b"%d" % number
        listed = [info.path.rpartition("/")[2] for info in await box.list(".")]
        assert listed == ["n", *(f"only-{i}" for i in range(number + 1))]
    await box.write("n", b"other")
    names.append(await box.snapshot())
    await box.restore(names[3])
    assert await box.read("n") == b"3"
    await box.restore(names[4])
    assert await box.read("n") == b"other"
    with pytest.raises(FileProblem):
        await box.read("only-3")


async def test_a_snapshot_of_nothing(box: GuestSandbox) -> None:
    empty = await box.snapshot()
    await box.run("mkdir -p a/b; echo x >a/b/c")
    await box.restore(empty)
    assert await box.list(".") == []
    assert await box.snapshot() != empty


async def test_what_ran_before_is_ended(box: GuestSandbox) -> None:
    name = await box.snapshot()
    script = "(trap '' TERM HUP; while :; do echo x >>noise; date >>noise; sleep 0.02; done) & setsid sleep 4340 &"
    assert len((await box.run(script)).still_running) >= 2
    pending = asyncio.create_task(box.run("sleep 4341"))
    await asyncio.sleep(0.3)
    await box.restore(name)
    with pytest.raises(SandboxDied, match="went back"):
        await pending
    await asyncio.sleep(0.3)
    assert await box.list(".") == [], "nobody writes there any more"
    if box.kind != "none":
        assert (await box.run("cat /proc/[0-9]*/cmdline")).output.count(b"sleep") == 0
    assert (await box.run("echo alive")).output == b"alive\n"


async def test_a_snapshot_while_something_runs(box: GuestSandbox) -> None:
    await box.write("f", b"kept")
    noisy = await box.run("(while :; do echo x >>noise; sleep 0.02; done) & echo started")
    name = await box.snapshot()
    await asyncio.sleep(0.2)
    assert (await box.run(["kill", "-0", str(noisy.still_running[0])])).exit_code == 0, "it goes on"
    first = len(await box.read("noise"))
    await asyncio.sleep(0.3)
    assert len(await box.read("noise")) > first, "and still writes where everybody looks"
    await box.write("f", b"changed")
    await box.restore(name)
    assert await box.read("f") == b"kept"
    assert len(await box.read("noise")) < first


async def test_sessions_begin_anew(box: GuestSandbox) -> None:
    name = await box.snapshot()
    await box.run("mkdir sub; cd sub; export A=1", keep_session=True)
    assert (await box.run("echo $A; basename $PWD", keep_session=True)).output == b"1\nsub\n"
    later = await box.snapshot()
    assert (await box.run("echo $A; basename $PWD", keep_session=True)).output == b"1\nsub\n", "keeping ends none"
    await box.restore(name)
    assert (await box.run("echo $A; pwd", keep_session=True)).output.decode() == f"\n{box.workdir}\n"
    await box.restore(later)
    assert (await box.stat("sub")).mode == 0o755


async def test_the_fingerprint_right_after(box: GuestSandbox) -> None:
    await box.write("f", b"one")
    name = await box.snapshot()
    await box.run("echo two >f", keep_session=True)
    changed = await box.fingerprint()
    await box.run("true", keep_session=True)  # its answer brought a fingerprint along
    await box.restore(name)
    now = await box.fingerprint()
    assert now != changed
    assert await box.fingerprint() == now
    await box.write("f", b"two")
    assert await box.fingerprint() != now


async def test_a_fork_of_a_fork_and_its_snapshots(box: GuestSandbox) -> None:
    await box.run("echo a >a; mkdir d; echo 1 >d/x")
    first = await box.snapshot()
    async with await box.fork(first) as fork:
        await fork.run("echo b >b; rm -r d; mkdir d; echo 2 >d/y")
        second = await fork.snapshot()
        await fork.run("rm a b")
        async with await fork.fork(second) as grandchild:
            assert (await grandchild.run("cat a b d/*; ls d")).output == b"a\nb\n2\ny\n"
            await grandchild.run("echo c >c")
            third = await grandchild.snapshot()
            await grandchild.run("rm -r *")
            await fork.restore(second)
            await box.restore(first)
            await grandchild.restore(third)
            assert (await grandchild.run("cat a b c d/*; ls d")).output == b"a\nb\nc\n2\ny\n"
        assert (await fork.run("ls; cat d/*")).output == b"a\nb\nd\n2\n"
    assert (await box.run("ls; cat d/*")).output == b"a\nd\n1\n"
    with pytest.raises(ValueError, match="no snapshot"):
        await box.restore("17")


async def test_forks_outlive_what_they_came_from(box: GuestSandbox) -> None:
    await box.run("echo a >a; mkdir d; echo 1 >d/x")
    name = await box.snapshot()
    fork = await box.fork(name)
    async with fork:
        await box.close()
        with pytest.raises(SandboxDied, match="closed"):
            await box.fork(name)
        with pytest.raises(SandboxDied, match="closed"):
            await box.restore(name)
        with pytest.raises(SandboxDied, match="closed"):
            await box.snapshot()
        assert (await fork.run("cat a d/x; echo more >>a")).output == b"a\n1\n"
        later = await fork.snapshot()
        await fork.run("rm -r *")
        await fork.restore(later)
        assert (await fork.run("cat a d/x")).output == b"a\nmore\n1\n"
        async with await fork.fork() as other:
            assert (await other.run("cat a d/x")).output == b"a\nmore\n1\n"


async def test_forks_at_once_see_only_their_own(box: GuestSandbox) -> None:
    await box.run("mkdir d; seq 1000 >d/common; chmod 640 d/common")
    name = await box.snapshot()
    forks = await asyncio.gather(*(box.fork(name) for _ in range(4)))
    try:
        await asyncio.gather(*(fork.run(f"echo {i} >>d/common; echo {i} >d/own") for i, fork in enumerate(forks)))
        for number, fork in enumerate(forks):
            seen = (await fork.run("tail -n1 d/common; cat d/own; stat -c %a d/common")).output
            assert seen == b"%d\n%d\n640\n" % (number, number)
        assert (await box.run("tail -n1 d/common; ls d")).output == b"1000\ncommon\n"
    finally:
        await asyncio.gather(*(fork.close() for fork in forks))


async def test_a_dead_sandbox_lives_again(box: GuestSandbox) -> None:
    await box.write("f", b"kept")
    name = await box.snapshot()
    with pytest.raises(SandboxDied):
        await box.run(f"echo lost >f; kill -9 {box.facts['pid']}; sleep 20", timeout=30)
    async with await box.fork(name) as fork:
        assert await fork.read("f") == b"kept"
    await box.restore(name)
    assert await box.read("f") == b"kept"
    later = await box.snapshot()
    await box.write("f", b"again")
    await box.restore(later)
    assert await box.read("f") == b"kept"


async def test_a_dropped_snapshot(box: GuestSandbox) -> None:
    await box.write("f", b"1")
    one = await box.snapshot()
    await box.write("f", b"2")
    two = await box.snapshot()
    await box.drop(one)
    with pytest.raises(ValueError, match="no snapshot"):
        await box.restore(one)
    with pytest.raises(ValueError, match="no snapshot"):
        await box.drop(one)
    await box.write("f", b"3")
    await box.restore(two)
    assert await box.read("f") == b"2"


@pytest.mark.parametrize("after", [0.0, 0.001, 0.01, 0.05, 0.2])
async def test_cancelled_in_the_middle(box: GuestSandbox, after: float) -> None:
    await box.run("mkdir d; for i in $(seq 300); do echo old >d/$i; done")
    name = await box.snapshot()
    await box.run("rm -r d; mkdir d; for i in $(seq 400); do echo new >d/$i; done")
    going = asyncio.create_task(box.restore(name))
    await asyncio.sleep(after)
    going.cancel()
    await asyncio.wait([going])
    counted = (await box.run("cat d/* | sort | uniq -c")).output.split()
    assert counted in ([b"300", b"old"], [b"400", b"new"])
    if not going.cancelled():
        assert counted == [b"300", b"old"]
    await box.restore(name)
    assert (await box.run("cat d/* | sort | uniq -c")).output.split() == [b"300", b"old"]


Call = Callable[[GuestSandbox, str], Awaitable[object]]


@pytest.mark.parametrize(
    "call",
    [lambda box, name: box.snapshot(), lambda box, name: box.fork(name), lambda box, name: box.fork()],
    ids=["snapshot", "fork", "fork of now"],
)
@pytest.mark.parametrize("after", [0.0, 0.005, 0.05])
async def test_other_calls_cancelled_in_the_middle(box: GuestSandbox, call: Call, after: float) -> None:
    await box.run("mkdir d; for i in $(seq 300); do echo old >d/$i; done")
    name = await box.snapshot()
    await box.write("new", b"x")
    going = asyncio.create_task(call(box, name))  # type: ignore[arg-type]
    await asyncio.sleep(after)
    going.cancel()
    await asyncio.wait([going])
    if not going.cancelled() and isinstance(result := going.result(), GuestSandbox):
        await result.close()
    assert (await box.run("ls; ls d | wc -l; cat new")).output == b"d\nnew\n300\nx"
    await box.restore(await box.snapshot())
    assert (await box.run("ls; ls d | wc -l; cat new")).output == b"d\nnew\n300\nx"


async def test_closed_while_going_back(box: GuestSandbox) -> None:
    name = await box.snapshot()
    going = asyncio.create_task(box.restore(name))
    await asyncio.sleep(0.03)
    await box.close()
    await asyncio.wait([going])
    with pytest.raises(SandboxDied, match="closed"):
        await box.run("true")


async def test_special_files_and_raising_bits(box: GuestSandbox) -> None:
    script = """cp /bin/true raising; chmod 6755 raising; mkdir group; chmod 2755 group; mkfifo pipe; ln -s pipe link
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'; truncate -s 1M sparse
    mknod device c 1 3 2>/dev/null; ln -s /etc/passwd out; ln -s ../../.. up; mkdir -p sub/s; ln -s /tmp sub/s/t"""
    await box.run(script)
    name = await box.snapshot()
    await box.run("rm -rf * ; echo x >out")
    async with await box.fork(name) as fork:
        for one in (fork, box):
            if one is box:
                await box.restore(name)
            modes = (
                await one.run("stat -c %a raising group; find . -type b -o -type c; stat -c '%F %s' sparse")
            ).output
            assert modes == b"755\n755\nregular file 1048576\n"
            assert (await one.run("readlink out up sub/s/t")).output == b"/etc/passwd\n../../..\n/tmp\n"


async def test_its_place_in_memory_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held by what goes back, released by what dies, taken again by what lives again."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    box = await open_sandbox("none", SPEC)
    assert isinstance(box, GuestSandbox)
    async with box:
        (folder,) = tmp_path.glob("patchwright-places-*")
        name = await box.snapshot()
        await box.restore(name)
        assert [entry.live for entry in Ledger(folder).entries()] == [True]
        with pytest.raises(SandboxDied):
            await box.run(f"kill -9 {box.facts['pid']}; sleep 20", timeout=30)
        await box.restore(name)
        assert [entry.live for entry in Ledger(folder).entries()] == [True]
    assert Ledger(folder).entries() == []
