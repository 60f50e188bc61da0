"""Bubblewrap's work folders as layers: bounds, what is freed, what happens without them, and hostile content."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import bubblewrap_layers
from sandbox.base import FileProblem, SandboxError
from sandbox.bubblewrap import find_tree, open_bubblewrap
from sandbox.bubblewrap_layers import Keeper
from sandbox.machine import GuestSandbox
from sandbox.policy import MIB
from tests.sandbox.kinds import SPEC, need

pytestmark = pytest.mark.bubblewrap
ROOT = Path(__file__).resolve().parents[2]
SMALL = replace(SPEC, limits=replace(SPEC.limits, workdir_bytes=40 * MIB))


@pytest.fixture
async def layered() -> AsyncIterator[GuestSandbox]:
    need("bubblewrap")
    async with await open_bubblewrap(SMALL) as box:
        if box.facts["snapshots"] != "layers":
            pytest.skip(f"no layers here; {box.facts['snapshots']}")
        yield box


def keeper() -> Keeper:
    found = bubblewrap_layers._kept[0][1]
    assert isinstance(found, Keeper)
    return found


def stores() -> int:
    """How many memory file systems for layers are mounted."""
    lines = Path(f"/proc/{keeper().pid}/mountinfo").read_text().splitlines()
    return sum(line.split()[4].startswith(f"{keeper().stage}/s") and "tmpfs" in line for line in lines)


async def test_one_bound_for_all_snapshots_together(layered: GuestSandbox) -> None:
    names = []
    for _ in range(2):
        assert (await layered.run("head -c 15M /dev/urandom >big")).exit_code == 0
        names.append(await layered.snapshot())
    full = await layered.run("head -c 15M /dev/urandom >big")
    assert b"No space left" in full.output
    async with await layered.fork(names[1]) as fork:
        assert (await fork.run("head -c 30M /dev/urandom >more")).exit_code == 0, "a fork has a bound of its own ..."
        assert b"No space left" in (await fork.run("head -c 30M /dev/urandom >big")).output, "... and that is one"
    await layered.restore(names[0])
    await layered.drop(names[1])
    assert (await layered.run("head -c 20M /dev/urandom >big && stat -c %s big")).output == b"20971520\n"


async def test_files_are_bounded_too(layered: GuestSandbox) -> None:
    """Small files cost the kernel more than their bytes."""
    script = (
        "import os\ntry:\n  for i in range(10**6): os.mknod('%d' % i)\nexcept OSError as error: print(i, error.errno)"
    )
    made, number = (await layered.run(["python3", "-c", script], timeout=60)).output.split()
    assert int(number) == errno.ENOSPC
    assert int(made) < 13_000


async def test_everything_is_freed(layered: GuestSandbox) -> None:
    before = stores()
    name = await layered.snapshot()
    forks = [await layered.fork(name) for _ in range(2)]
    nested = await forks[0].fork()
    assert stores() == before + 3
    await forks[0].close()
    assert (await nested.run("true")).exit_code == 0
    await nested.close()
    assert stores() == before + 1
    await forks[1].close()
    for _ in range(3):
        await layered.restore(name)
    assert stores() == before
    await layered.close()
    assert stores() == before - 1


async def test_nothing_changed_takes_no_layer(layered: GuestSandbox) -> None:
    await layered.write("f", b"x")
    names = [await layered.snapshot() for _ in range(20)]
    mounted = (await layered.run("grep ' /workspace ' /proc/self/mountinfo")).output
    assert mounted.count(b"/u:") == 0
    await layered.restore(names[7])
    assert await layered.read("f") == b"x"


async def test_more_snapshots_than_an_overlay_has_layers(layered: GuestSandbox) -> None:
    """Beyond the kernel's bound they are copies; nobody notices but by the time that they take."""
    names = []
    for number in range(470):
        await layered.write("n", b"%d" % number)
        names.append(await layered.snapshot())
    for number in (469, 3, 440, 460):
        await layered.restore(names[number])
        assert await layered.read("n") == b"%d" % number
    async with await layered.fork(names[430]) as fork:
        assert await fork.read("n") == b"430"


@pytest.mark.skipif(os.getuid() != 0, reason="without root a folder of a lower layer can't be renamed, only moved")
async def test_a_folder_of_a_frozen_layer_is_renamed(layered: GuestSandbox) -> None:
    await layered.run("mkdir -p old/deep; echo x >old/deep/f")
    name = await layered.snapshot()
    script = "import os; os.rename('old', 'new'); os.mkdir('old')"
    assert (await layered.run(["python3", "-c", script])).exit_code == 0
    later = await layered.snapshot()
    await layered.run("rm -r new; echo y >old/f")
    await layered.restore(later)
    assert (await layered.run("cat new/deep/f; ls old new")).output == b"x\nnew:\ndeep\n\nold:\n"
    await layered.restore(name)
    assert (await layered.run("ls")).output == b"old\n"


async def test_inode_numbers_stay(layered: GuestSandbox) -> None:
    """What is kept looks untouched: git, for one, would read every file again."""
    await layered.run("mkdir -p d/e; for i in 1 2 3; do echo $i >d/$i; done; mkdir other; echo x >other/f")
    listed = "find . -mindepth 1 {} | sort | xargs stat -c '%n %i'"
    numbers = (await layered.run(listed.format(""))).output
    looks = await layered.fingerprint()
    name = await layered.snapshot()
    assert await layered.fingerprint() == looks
    assert (await layered.run(listed.format(""))).output == numbers
    await layered.run("echo new >other/f; echo more >>d/1; git init -q repository")
    untouched = "-type f ! -path ./other/f ! -path ./d/1"  # what was copied up for a change gets its own number
    files = (await layered.run(listed.format(untouched))).output
    for _ in range(3):
        later = await layered.snapshot()
        assert (await layered.run(listed.format(untouched))).output == files
    await layered.restore(name)
    assert (await layered.run(listed.format(""))).output == numbers
    await layered.restore(later)
    assert (await layered.run(listed.format(untouched))).output == files
    async with await layered.fork(later) as fork:
        first = (await fork.run(listed.format(untouched))).output
        await fork.run("echo x >new")
        await fork.snapshot()
        assert (await fork.run(listed.format(f"{untouched} ! -name new"))).output == first


async def test_a_tree_deeper_than_a_path_may_be(layered: GuestSandbox) -> None:
    name = await layered.snapshot()
    script = "import os\nfor i in range({0}): os.mkdir('{1}'); os.chdir('{1}')"
    await layered.run(["python3", "-c", script.format(1500, "d")])
    deep = await layered.snapshot()
    await layered.restore(deep)
    assert (await layered.run("find . -type d | wc -l")).output == b"1501\n"
    await layered.run(["python3", "-c", script.format(4000, "e")], cwd="d")
    with pytest.raises(FileProblem, match="too long"):
        await layered.snapshot()
    await layered.restore(name)
    assert await layered.list(".") == []
    await layered.drop(deep)
    assert (await layered.run("df --output=iused . | tail -n1")).output.strip().isdigit()
    assert int((await layered.run("df --output=iused . | tail -n1")).output) < 100, "it is removed all the same"


async def test_what_lies_in_a_layer_is_not_followed(layered: GuestSandbox, tmp_path: Path) -> None:
    """The bits are taken off what is in the layer, by a process that sees the host's files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "raising").write_text("x")
    (outside / "raising").chmod(0o4755)
    await layered.run(f"ln -s {outside} d; ln -s {outside}/raising f; mkdir own; cp /bin/true own/r; chmod 4755 own/r")
    await layered.restore(await layered.snapshot())
    assert (outside / "raising").stat().st_mode & 0o7777 == 0o4755
    assert (await layered.run("stat -c %a own/r")).output == b"755\n"


async def test_a_fork_does_not_see_through_to_others(layered: GuestSandbox) -> None:
    await layered.write("secret", b"of the first")
    async with await layered.fork() as fork:
        await fork.write("secret", b"of the fork")
        await layered.write("later", b"x")
        places = "/proc/[0-9]*/root/mnt/*/*/*/secret /mnt/s*/*/*/secret /mnt/*"
        assert (await fork.run(f"cat {places} 2>/dev/null; ls /proc/1/root/mnt 2>/dev/null")).output.strip() == b""
        hosts = (await fork.run("cat /proc/self/mountinfo /proc/1/mountinfo")).output
        shown = str(find_tree(None)).encode()  # the base tree's own place shows, as of every mount
        assert b"/tmp/" not in hosts.replace(shown, b"")


async def test_the_process_that_holds_the_layers_is_killed(layered: GuestSandbox) -> None:
    await layered.write("f", b"x")
    name = await layered.snapshot()
    old = keeper()
    os.kill(old.pid, signal.SIGKILL)
    while old.lives:
        await asyncio.sleep(0.01)
    assert (await layered.run("cat f; echo y >g")).output == b"x", "who runs goes on"
    with pytest.raises(SandboxError, match="lost"):
        await layered.restore(name)
    with pytest.raises(SandboxError, match="lost"):
        await layered.fork(name)
    copy = await layered.snapshot()
    await layered.run("rm f g")
    await layered.restore(copy)
    assert (await layered.run("cat f g")).output == b"xy\n"
    again = await layered.snapshot()
    await layered.restore(again)
    assert keeper() is not old


async def test_the_process_that_holds_the_layers_hangs(layered: GuestSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    await layered.write("f", b"x")
    name = await layered.snapshot()
    old = keeper()
    os.kill(old.pid, signal.SIGSTOP)
    monkeypatch.setattr(bubblewrap_layers, "_PATIENCE", 0.2)
    with pytest.raises(SandboxError):
        await layered.fork(name)
    monkeypatch.undo()  # others need time
    old.end()
    assert not old.lives
    assert (await layered.run("cat f")).output == b"x", "who runs goes on"


async def test_without_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without `nsenter`, or where an overlay can't be mounted: copies, and the facts say so."""
    need("bubblewrap")
    for name in ("bwrap", "unshare", "setpriv", "mount"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    async with await open_bubblewrap(SMALL) as box:
        assert box.facts["snapshots"] == "copies: nsenter not found; install util-linux"
        await box.write("d/f", b"x")
        name = await box.snapshot()
        await box.write("d/f", b"y")
        async with await box.fork(name) as fork:
            assert await fork.read("d/f") == b"x"
        await box.restore(name)
        assert await box.read("d/f") == b"x"
        await box.run("head -c 30M /dev/urandom >big")
        assert b"No space left" in (await box.run("head -c 30M /dev/urandom >more")).output


OWNER = """import asyncio, sys
from sandbox import bubblewrap_layers
from tests.sandbox.kinds import SPEC, opener
async def main():
    box = await opener("bubblewrap")(SPEC)
    await box.write("f", b"x")
    fork = await box.fork(await box.snapshot())
    print(bubblewrap_layers._kept[0][1].pid, flush=True)
    await asyncio.gather(box.run("sleep 4403"), fork.run("sleep 4403"))
asyncio.run(main())
"""


async def test_a_killed_owner_leaves_no_layers(layered: GuestSandbox) -> None:
    process = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    held = Path("/proc", process.stdout.readline().decode().strip())
    assert b"bubblewrap_keeper" in (held / "cmdline").read_bytes()
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while held.exists() or _sleepers():
        assert time.monotonic() < end, "it ends with whom it works for, and with it and the sandboxes all mounts do"
        await asyncio.sleep(0.05)


def _sleepers() -> list[Path]:
    from tests.sandbox.inside import reads

    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if reads(path) == b"sleep\0004403\0"]


ORDINARY = """import asyncio, os
from sandbox.bubblewrap import open_bubblewrap
from sandbox.policy import Limits, SandboxSpec, MIB
async def main():
    assert os.getuid() != 0
    limits = Limits(memory=200 * MIB, processes=60, workdir_bytes=50 * MIB)
    async with await open_bubblewrap(SandboxSpec(image="host", limits=limits)) as box:
        await box.run("mkdir -p d/e g; echo one >d/f; cp /bin/true r; chmod 6755 r; chmod 0 d/e; mkdir x; echo >x/y")
        one = await box.snapshot()
        await box.run("rm -r x; mkdir x; echo two >d/f; mv g h")
        two = await box.snapshot()
        async with await box.fork(one) as fork:
            seen = (await fork.run("cat d/f; ls . x; stat -c %a r d/e")).output
            assert seen == b"one\\n.:\\nd\\ng\\nr\\nx\\n\\nx:\\ny\\n755\\n0\\n", seen
            assert (await fork.run("id -u; stat -c %u d; grep CapEff /proc/self/status")).output.split() == [
                b"1000", b"1000", b"CapEff:", b"0000000000000000"]
        await box.restore(one)
        assert (await box.run("cat d/f; ls x")).output == b"one\\ny\\n"
        await box.restore(two)
        assert (await box.run("cat d/f; ls x; ls")).output == b"two\\nd\\nh\\nr\\nx\\n"
        fill = await box.run("head -c 60M /dev/zero >fill")
        assert b"No space left" in fill.output
        print(box.facts["snapshots"])
asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="the rest of the suite runs as an ordinary user here already")
def test_as_an_ordinary_user() -> None:
    need("bubblewrap")
    if not shutil.which("setpriv") or not Path("/usr/bin/python3").exists():
        pytest.skip("needs setpriv and a /usr/bin/python3 that other users can start")
    command = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "/usr/bin/python3", "-c", ORDINARY]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, check=False, timeout=120)
    if "No module named 'sandbox'" in done.stderr or "cannot import name 'StrEnum'" in done.stderr:
        pytest.skip("other users can't read this checkout, or their Python is older than 3.11")
    assert done.stdout == "layers\n" or done.stdout.startswith("copies: Layers can't be mounted"), done.stderr
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release >= (6, 6):  # since then memory file systems have attributes for users
        assert done.stdout == "layers\n"
