"""What every kind of sandbox does the same: snapshots and forks."""

from __future__ import annotations

import pytest

from sandbox.base import FileProblem
from sandbox.machine import GuestSandbox


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


async def test_holes_take_no_room(box: GuestSandbox) -> None:
    script = (
        "truncate -s 100G sparse; printf end >>sparse; head -c 1M /dev/urandom | dd of=sparse seek=7 bs=1G conv=notrunc"
    )
    await box.run(f"{script}; truncate -s 3G empty")
    name = await box.snapshot()
    await box.run("rm sparse empty")
    async with await box.fork(name) as fork:
        assert [(await fork.stat(path)).size for path in ("sparse", "empty")] == [(100 << 30) + 3, 3 << 30]
        assert await fork.read("sparse", offset=(100 << 30) - 1, limit=9) == b"\0end"
        assert b"\0" * 100 not in await fork.read("sparse", offset=7 << 30, limit=1000)
        assert int((await fork.run("du -sm .")).output.split()[0]) < 10


@pytest.mark.heavy
async def test_snapshots_together_are_bounded(box: GuestSandbox) -> None:
    """By the bound on the work folder and a little more; a sandbox of layers notices when it writes."""
    fill = "head -c 190M /dev/zero | tr '\\0' x >f; stat -c %s f"
    assert (await box.run(fill)).output == b"199229440\n"
    name = await box.snapshot()
    if box.facts.get("snapshots") == "layers":
        assert b"No space left" in (await box.run(fill)).output
    else:
        with pytest.raises(FileProblem, match="other snapshots hold the rest: drop some"):
            await box.snapshot()
        await box.drop(name)
        name = await box.snapshot()
    await box.run("rm f; echo x >f")
    await box.restore(name)
    assert (await box.stat("f")).size == 199229440


async def test_what_its_owner_may_not_read(box: GuestSandbox) -> None:
    if (await box.run("id -u")).output == b"0\n":
        pytest.skip("root may read everything")
    await box.run("mkdir -p a/b/c; echo x >a/b/c/f; chmod 0 a/b/c/f a/b/c; chmod 300 a/b; chmod 100 a")
    name = await box.snapshot()
    look = "for f in a a/b a/b/c a/b/c/f; do stat -c %a $f; chmod 700 $f; done; cat a/b/c/f"
    assert (await box.run(look)).output == b"100\n300\n0\n0\nx\n", "it is as it was"
    await box.run("rm -r a")
    await box.restore(name)
    assert (await box.run(look)).output == b"100\n300\n0\n0\nx\n"
