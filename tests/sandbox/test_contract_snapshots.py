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


@pytest.mark.heavy
async def test_a_snapshot_that_is_too_large(box: GuestSandbox) -> None:
    await box.run("truncate -s 100G sparse")
    if box.facts.get("snapshots") == "layers":  # where it is what it takes
        async with await box.fork(await box.snapshot()) as fork:
            assert (await fork.stat("sparse")).size == 100 << 30
    else:
        with pytest.raises(FileProblem, match="holds more than"):
            await box.snapshot()
    await box.run("rm sparse; echo x >f")
    async with await box.fork() as fork:
        assert await fork.read("f") == b"x\n"
