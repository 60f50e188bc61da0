"""What every kind of sandbox does the same: reading, writing, listing, fingerprints, tars."""

from __future__ import annotations

import asyncio
import os
import tarfile

import pytest

from sandbox.base import FileKind, FileProblem
from sandbox.machine import GuestSandbox
from tests.sandbox.inside import member, tar_of


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


async def test_a_folder_of_many_long_names(box: GuestSandbox) -> None:
    await box.run("mkdir many; cd many; seq -f '%0240.0f' 1 9000 | xargs touch")
    found = await box.list("many", limit=20_000)
    assert 1000 < len(found) <= 9000
    assert (await box.run("echo alive")).output == b"alive\n"


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
