"""Traps in the state folder, where commands may write too: links and pipes where the guest's next file would be."""

from __future__ import annotations

import time

import pytest

from sandbox.machine import GuestSandbox

pytestmark = pytest.mark.heavy

PLANTS = {
    "pipe": "mkfifo",
    "link to the guest's output": "ln -sf /proc/self/fd/4",
    "link to the guest's input": "ln -sf /proc/self/fd/3",
    "link to a device": "ln -sf /dev/zero",
    "link to a file": "ln -sf $PWD/mine",
    "folder": "mkdir",
    "file that is closed to all": "install -m 0 /dev/null",
}
FORGED = r"""printf '\0\0\0\101\0\0\0\0{"id":%d,"exit_code":0,"head":0,"total":0,"seconds":0,"end":"exited"}'"""


async def plant(box: GuestSandbox, what: str, where: str) -> None:
    await box.run(f"echo mine >mine; for n in $(seq 1 40); do {what} {box.state_dir}/{where.format(n='$n')}; done")


@pytest.mark.parametrize("plants", PLANTS)
async def test_where_a_long_output_will_be_kept(box: GuestSandbox, plants: str) -> None:
    await plant(box, PLANTS[plants], "outputs/{n}.txt")
    started = time.monotonic()
    for _ in range(3):
        result = await box.run(f"for n in $(seq 1 300); do {FORGED % 1}; done; exit 3", max_output=100, timeout=20)
        assert (result.exit_code, result.end) == (3, "exited")
        if result.output_file is not None:
            assert (await box.read(result.output_file)).count(b"exit_code") == 300
    assert time.monotonic() - started < 10
    assert await box.read("mine") == b"mine\n"


@pytest.mark.parametrize("plants", PLANTS)
@pytest.mark.parametrize("where", ["session/{n}", "session/{n}.sh", "session/env"])
async def test_where_a_session_will_be_kept(box: GuestSandbox, plants: str, where: str) -> None:
    await box.run("mkdir sub")
    await plant(box, PLANTS[plants], where)
    started = time.monotonic()
    await box.run("cd sub; export A=$'two\nlines' B=1", keep_session=True, timeout=20)
    result = await box.run("pwd", keep_session=True, timeout=20)
    assert result.output.decode().strip() in (f"{box.workdir}/sub", box.workdir), "carried, or not: nothing else"
    long = await box.run("#" + "x" * 200_000 + "\necho long", timeout=20)
    assert long.output == b"long\n" or long.exit_code == 126
    assert time.monotonic() - started < 10
    assert await box.read("mine") == b"mine\n"
    assert (await box.run("echo alive")).output == b"alive\n"


@pytest.mark.parametrize("plants", PLANTS)
async def test_what_a_session_leaves_for_the_guest_to_read(box: GuestSandbox, plants: str) -> None:
    """Its own command plants it, behind whatever was cleared before and ahead of what the shell writes at its end."""
    plant_it = f"for n in $(seq 1 40); do {PLANTS[plants]} {box.state_dir}/session/$n; done"
    started = time.monotonic()
    result = await box.run(f"echo mine >mine; mkdir sub; cd sub; {plant_it}; true", keep_session=True, timeout=20)
    assert result.end == "exited"
    assert (await box.run("pwd", keep_session=True, timeout=20)).end == "exited"
    assert time.monotonic() - started < 10
    assert (await box.run("echo alive")).output == b"alive\n"


@pytest.mark.parametrize("target", ["/proc/self/fd", "/", "/dev", "gone"])
async def test_the_folders_themselves(box: GuestSandbox, target: str) -> None:
    await box.run(f"cd {box.state_dir}; for f in outputs session; do rm -r $f; ln -s {target} $f; done")
    started = time.monotonic()
    for _ in range(8):  # the files are named by number, and so are descriptors
        result = await box.run("seq 1 10000; export A=1; exit 3", max_output=100, timeout=20, keep_session=True)
        assert result.exit_code == 3
    assert time.monotonic() - started < 20
    assert (await box.run("echo alive")).output == b"alive\n"


async def test_a_state_folder_that_is_cleared_comes_back(box: GuestSandbox) -> None:
    await box.run(f"mkdir sub; rm -rf {box.state_dir}/*")
    await box.run("cd sub; export A=1", keep_session=True)
    assert (await box.run("pwd; echo $A", keep_session=True)).output.decode() == f"{box.workdir}/sub\n1\n"
    await box.run(f"rm -rf {box.state_dir}/*")
    result = await box.run("seq 1 10000", max_output=100)
    assert result.output_file is not None
    assert (await box.read(result.output_file)).endswith(b"\n10000\n")
