"""The guest by itself: the language level that it promises, and old interpreters where the machine has them."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import guest
from sandbox.channel import BOOTSTRAP, FrameReader, ProtocolBroken, pack_frame
from sandbox.local import LocalMachine, open_local
from sandbox.machine import GuestSandbox
from sandbox.pipes import spawn
from sandbox.scratch import scratch_folder
from tests.sandbox.kinds import SPEC

SOURCE = Path(guest.__file__).read_text()


def test_python_3_6_syntax_and_the_standard_library_only() -> None:
    tree = ast.parse(SOURCE, feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


def _interpreters() -> Iterator[str]:
    for minor in range(6, 15):
        name = f"python3.{minor}"
        found = [*Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/{name}"), Path(f"/usr/bin/{name}")]
        yield from (str(path) for path in found[:1] if path.exists())


@pytest.mark.parametrize("program", sorted(set(_interpreters())) or [shutil.which("python3") or "python3"])
async def test_old_and_new_interpreters(program: str) -> None:
    """Each in the C locale, where old ones know ASCII only."""
    stream, channel = await spawn([program, "-I", "-S", "-c", BOOTSTRAP], {"PATH": "/usr/bin:/bin", "LC_ALL": "C"})
    work, state = scratch_folder("work"), scratch_folder("state")
    machine = LocalMachine(stream, SPEC, work, state, work)
    box = GuestSandbox(machine, channel, SPEC, workdir=str(work), state_dir=str(state), reopen=open_local)
    async with box:
        await box.start({"env": {}, "rlimits": {"core": 0}, "spool_bytes": 1 << 20})
        result = await box.run("cd /; export X=ä; echo $X; sleep 0.01 &", keep_session=True)
        assert (result.exit_code, result.output) == (0, "ä\n".encode())
        assert (await box.run("pwd; echo $X", keep_session=True)).output == "/\nä\n".encode()
        assert (await box.run("sleep 100", timeout=0.2)).end == "timeout"
        assert (await box.run("seq 1 100000", max_output=100)).output_file
        await box.write("umläut \udcff/f", b"x" * 5_000_000)
        async with await box.fork() as fork:
            assert await fork.read("umläut \udcff/f") == b"x" * 5_000_000
        await box.run("mkdir again; truncate -s 1M again/sparse; ln -s x again/link; ln again/sparse again/hard")
        await box.write("copy", Path(box._shelf.get(await box.snapshot()).path).read_bytes())  # type: ignore[union-attr]
        await box.run("mkdir filled")
        await box.fill(await box.read("copy"), "filled")
        assert (
            await box.run("cmp umläut*/f filled/umläut*/f; diff -r --no-dereference again filled/again")
        ).output == b""
        await box.run("rm -r filled copy again")
        assert len(await box.list(".", depth=2)) == 2
        assert await box.fingerprint()


# ---------------------------------------------------------------- output


@given(st.lists(st.binary(max_size=40)), st.integers(0, 50))
def test_head_and_tail_of_any_chunks(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], cap: int) -> None:
    path = tmp_path_factory.getbasetemp() / "spool"
    output = guest.Output(cap, str(path).encode())
    for chunk in chunks:
        output.add(chunk)
    head, tail = output.finish()
    whole = b"".join(chunks)
    assert output.total == len(whole)
    if len(whole) <= cap:
        assert (head, tail, output.spool) == (whole, b"", None)
    else:
        assert head == whole[: cap // 2]
        assert tail == (whole[-(cap - cap // 2) :] if cap else b"")
        assert path.read_bytes() == whole


# ---------------------------------------------------------------- frames


MESSAGES = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5))


@given(st.lists(st.tuples(MESSAGES, st.binary(max_size=50))), st.data())
def test_frames_cut_anywhere(frames: list[tuple[dict[str, object], bytes]], data: st.DataObject) -> None:
    stream = b"".join(pack_frame(message, payload) for message, payload in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader, found = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += list(reader.feed(stream[start:end]))
    assert found == frames


@given(st.binary())
def test_any_bytes_are_frames_or_a_broken_protocol(data: bytes) -> None:
    try:
        for message, payload in FrameReader().feed(data):
            assert isinstance(message, dict) and isinstance(payload, bytes)
    except ProtocolBroken:
        pass
