"""Images that can't run the guest by themselves: the interpreter that is brought, and what the image has to do with it.

The whole contract and the attacks run on such an image too: see `IMAGES` in `tests/sandbox/kinds.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import docker as docker_sandbox
from sandbox.base import CommandEnd, FileKind, FileProblem, ImageProblem
from sandbox.docker import open_docker
from sandbox.guest_python import BROUGHT_ARGV, BROUGHT_DIR, OURS, bundle, tree_python, without_loader_settings
from sandbox.guest_python_make import digest, linked, make
from sandbox.guest_python_volume import mounted, remove_volumes
from sandbox.policy import SandboxSpec
from tests.sandbox import no_python
from tests.sandbox.kinds import SPEC, need

pytestmark = [pytest.mark.docker, pytest.mark.heavy]


@pytest.fixture(autouse=True)
def needs_docker() -> None:
    need("docker")


# ---------------------------------------------------------------- the interpreter itself


def in_bundle(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Run it on this machine, where it lies in the cache."""
    argv = [word.replace(BROUGHT_DIR, str(bundle().folder)) for word in BROUGHT_ARGV[: BROUGHT_ARGV.index("-c")]]
    return subprocess.run([*argv, *arguments], env=env or {}, check=True, capture_output=True, text=True).stdout


def test_it_runs_no_code_but_its_own() -> None:
    source = (Path(__file__).parents[2] / "sandbox/guest.py").read_text()
    names = sorted(set(re.findall(r"^\s*(?:import|from) (\w+)", source, re.MULTILINE)))
    assert {"ctypes", "hashlib", "tarfile", "resource"} <= set(names)
    show = "for line in open('/proc/self/maps'):\n  if ' r-xp ' in line: print(line.split()[-1])"
    script = f"import {', '.join(names)}\n{show}"
    loaded = {line for line in in_bundle("-c", script, env={"LD_LIBRARY_PATH": "/usr/lib"}).split() if "/" in line}
    assert loaded
    assert {path for path in loaded if not path.startswith(f"{bundle().folder}/")} == set()


def test_it_sets_no_variable() -> None:
    assert in_bundle("-c", "import os; print(dict(os.environ))", env={"LANG": "C.UTF-8"}) == "{'LANG': 'C.UTF-8'}\n"


def test_the_same_base_gives_the_same_bytes(tmp_path: Path) -> None:
    from sandbox.images import base_tar

    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    one, other = (make(base_tar(), folder) for folder in folders)
    assert digest(one) == digest(other)
    (one / "lib/libm.so.6").chmod(0o755)
    assert digest(one) != digest(other)
    assert sum(path.stat().st_size for path in other.rglob("*") if path.is_file()) < 40 << 20


def test_every_library_that_is_named_is_there() -> None:
    folder = bundle().folder
    names = {name for path in folder.rglob("*") if path.suffix == ".so" or ".so." in path.name for name in
             linked(path)[1]}  # fmt: skip
    names |= set(linked(folder / "bin/python3")[1]) | set(linked(folder / "bin/git")[1])
    assert "libffi.so.8" in names or any(name.startswith("libffi") for name in names)
    assert {name for name in names if not name.startswith("ld-")} <= {path.name for path in folder.glob("lib/*")}


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100)])
def test_what_is_no_program_of_a_known_kind(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "program").write_bytes(data)
    with pytest.raises(ImageProblem, match="64-bit"):
        linked(tmp_path / "program")


def test_a_tree_is_asked_for_its_python(tmp_path: Path) -> None:
    path = "/usr/local/bin:/usr/bin:/bin"
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    assert not tree_python(tmp_path, path)
    (tmp_path / "usr/bin/python3").symlink_to("/etc/alternatives/python")
    assert not tree_python(tmp_path, path), "a link that leads nowhere"
    (tmp_path / "etc/alternatives/python").symlink_to("../../../../opt/python")
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/python").touch()
    assert tree_python(tmp_path, path), "links are followed as they lead inside, and lead out of nothing"
    (tmp_path / "opt/python").unlink()
    (tmp_path / "opt/python").symlink_to("/usr/bin/python3")
    assert not tree_python(tmp_path, path), "a ring"


def test_what_is_said_to_loaders_is_for_the_commands() -> None:
    image = {"PATH": "/bin", "LD_PRELOAD": "/lib/libjemalloc.so", "GLIBC_TUNABLES": "x=1"}
    start, commands = without_loader_settings(image, {"HOME": "/h", "LD_LIBRARY_PATH": "/opt/lib"})
    assert start == {"HOME": "/h", "LD_PRELOAD": "", "GLIBC_TUNABLES": "", "LD_LIBRARY_PATH": ""}
    assert commands == {"LD_PRELOAD": "/lib/libjemalloc.so", "GLIBC_TUNABLES": "x=1", "LD_LIBRARY_PATH": "/opt/lib"}


# ---------------------------------------------------------------- when it is brought


async def containers_for(image: str) -> int:
    """Open and close a sandbox; how many containers the engine made of its image for that."""
    with no_python.engine() as client:
        name = client.images.get(image).id
        await asyncio.sleep(1.1)  # the engine's record is asked for by the second
        began = int(time.time())
        async with await open_docker(replace(SPEC, image=image)) as box:
            assert (await box.run("echo fine")).output == b"fine\n"
        filters = {"type": "container", "event": "create", "image": name}
        return len(list(client.events(since=began, until=int(time.time()) + 1, filters=filters, decode=True)))


@pytest.fixture
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learned about images is forgotten."""
    monkeypatch.setattr("sandbox.guest_python._marker", lambda image: tmp_path / image.replace(":", "-"))


async def test_one_container_more_for_the_first_time_only(forgotten: None) -> None:
    ordinary = no_python.from_base('LABEL test="ordinary"')
    assert await containers_for(ordinary) == 1
    image = no_python.from_base('LABEL test="without"', f"RUN rm -rf {no_python.PYTHONS}")
    assert [await containers_for(image) for _ in range(2)] == [2, 1]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("RUN rm -r /usr/lib/python3*/ctypes", id="no ctypes"),
        pytest.param("RUN printf '#!/bin/sh\\nexit 3\\n' > /usr/local/bin/python3 && chmod +x /usr/local/bin/python3",
                     id="no Python"),
        pytest.param("RUN touch /usr/local/bin/python3 && chmod 755 /usr/local/bin/python3", id="an empty program"),
        pytest.param("RUN rm /usr/lib/*/libexpat.so.1*", id="a library is missing"),
        pytest.param("ENV LD_PRELOAD=/nowhere/lib.so GLIBC_TUNABLES=nonsense\nRUN rm /usr/bin/python3", id="preload"),
    ],
)  # fmt: skip
async def test_a_python_that_cannot_run_the_guest(forgotten: None, line: str) -> None:
    async with await open_docker(replace(SPEC, image=no_python.from_base(*line.split("\n")))) as box:
        assert box.facts["done"] == {"private": True, "subreaper": True, "no_new_privileges": True, "seccomp": True}
        assert (await box.run("echo $((6 * 7))", keep_session=True)).output.endswith(b"42\n")
        if "PRELOAD" in line:
            assert (await box.run("echo $LD_PRELOAD 2>/dev/null")).output.endswith(b"/nowhere/lib.so\n")


async def test_commands_see_nothing_of_it_and_cannot_change_it() -> None:
    async with await open_docker(replace(SPEC, image=no_python.without_python())) as box:
        assert (await box.run("python3")).exit_code == 127
        assert BROUGHT_DIR.encode() not in (await box.run("env; cat /etc/ld.so.* 2>/dev/null")).output
        assert b"LD_" not in (await box.run("env")).output
        for path in ("ld.so", "lib/libc.so.6", "new"):
            for way in ("echo x >>", "rm -f ", "mv /tmp/x ", "touch ", "chmod 777 "):
                result = await box.run(f"echo x >/tmp/x; {way}{BROUGHT_DIR}/{path}")
                assert result.exit_code != 0 or (way == "rm -f " and path == "new"), (way, path)
            with pytest.raises(FileProblem):
                await box.write(f"{BROUGHT_DIR}/{path}", b"x")
        assert b" ro," in (await box.run(f"grep ' {BROUGHT_DIR} ' /proc/self/mounts")).output


async def test_a_volume_that_was_filled_in_part_is_filled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"patchwright-guest-test{os.getpid()}"
    monkeypatch.setattr("sandbox.guest_python_volume.PREFIX", name)
    with no_python.engine() as client:
        volume = client.volumes.create(name + bundle().digest)
        try:
            async with await open_docker(replace(SPEC, image=no_python.without_python())) as box:
                assert (await box.run("echo fine")).output == b"fine\n"
            assert client.volumes.get(volume.name)
            assert remove_volumes(client) == 1
            images = [tag for image in client.images.list() for tag in image.tags]
            assert not [tag for tag in images if tag.startswith("patchwright/empty")]
        finally:
            remove_volumes(client)


@pytest.mark.parametrize("at", ["run/patchwright-guest", "elsewhere"])
async def test_what_an_image_has_at_that_place_runs_nowhere(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Neither what lies there nor a link there gets into the volume, which other images' guests are started from."""
    monkeypatch.setattr("sandbox.guest_python_volume.PREFIX", f"patchwright-guest-hostile{os.getpid()}")
    program = no_python.busybox().read_bytes()
    own = {"bin/sh": program, "bin/ls": program, f"{at}/ld.so": b"#!/bin/sh\nexit 1\n", f"{at}/planted": b"x"}
    links = {} if at.startswith("run") else {BROUGHT_DIR.lstrip("/"): f"/{at}"}
    image = no_python.from_files(f"hostile-{at.partition('/')[0]}", own, links)
    with no_python.engine() as client:
        try:
            for tag in (image, no_python.without_python()):
                async with await open_docker(replace(SPEC, image=tag)) as box:
                    assert (await box.run(f"ls {BROUGHT_DIR}")).output == b"bin\ncommands\ndigest\nld.so\nlib\n"
        finally:
            remove_volumes(client)


async def test_several_at_once_share_one_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"patchwright-guest-together{os.getpid()}"
    monkeypatch.setattr("sandbox.guest_python_volume.PREFIX", name)
    spec = replace(SPEC, image=no_python.without_python())
    with no_python.engine() as client:
        try:
            boxes = await asyncio.gather(*(open_docker(spec) for _ in range(4)))
            assert [(await box.run("echo fine")).output for box in boxes] == [b"fine\n"] * 4
            assert remove_volumes(client) == 0, "in use"
            await asyncio.gather(*(box.close() for box in boxes))
            assert remove_volumes(client) == 1
        finally:
            remove_volumes(client)


def test_another_processor_is_refused_by_name() -> None:
    with no_python.engine() as client, pytest.raises(ImageProblem, match="is for sparc64, the engine's machine is"):
        mounted(client, replace(bundle(), machine="sparc64", digest="other"))


async def test_where_ours_does_not_run_either(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.docker.BROUGHT_ARGV", ("/no/such/interpreter",))
    with pytest.raises(ImageProblem, match=r"can't run the sandbox's guest.*python3.*no/such.*Add python3"):
        await open_docker(replace(SPEC, image=no_python.without_python()))


async def test_a_guest_that_has_ended_before_it_is_spoken_to(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine says what it died of, and that decides whether another interpreter is tried."""
    started = docker_sandbox._started

    async def slowly(machine: docker_sandbox.DockerMachine, spec: SandboxSpec) -> None:
        await started(machine, spec)
        await asyncio.sleep(1.0)  # by now its end was heard, mostly; later must do as well

    inspect = docker_sandbox.DockerMachine._inspect

    def later(machine: docker_sandbox.DockerMachine) -> str:
        time.sleep(3.0)  # an engine that is busy
        return inspect(machine)

    monkeypatch.setattr(docker_sandbox, "_started", slowly)
    monkeypatch.setattr(docker_sandbox.DockerMachine, "_inspect", later)
    async with await open_docker(replace(SPEC, image=no_python.without_python())) as box:
        assert (await box.run("echo fine")).output == b"fine\n"


# ---------------------------------------------------------------- what else an image may lack


async def test_an_image_without_git(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is there for scripts of ours; where it can't be had, the image is taken as it is."""
    spec = replace(SPEC, image=no_python.from_base("RUN rm /usr/bin/git"))
    version = f"git --version; PATH=$PATH:{OURS} git --version"
    async with await open_docker(spec) as box:
        missing, ours = (await box.run(version)).output.decode().splitlines()
        assert "not found" in missing
        assert ours.startswith("git version 2.")
        assert (await box.run("python3 -c 'print(6 * 7)'")).output == b"42\n", "the image's own"

    def nowhere() -> None:
        raise ImageProblem("no base image, and no mirror to make one from")

    monkeypatch.setattr("sandbox.guest_python.bundle", nowhere)
    monkeypatch.setattr("sandbox.guest_python._failed_until", [0.0])
    monkeypatch.setattr("sandbox.guest_python.is_known", lambda image: False)
    async with await open_docker(spec) as box:
        assert (await box.run(version)).exit_code == 127
    with pytest.raises(ImageProblem, match="has no Python 3 that can run the sandbox's guest, and no base image"):
        await open_docker(replace(SPEC, image=no_python.without_python()))


async def test_an_image_of_busybox_alone() -> None:
    """No C library, no bash, no accounts: what the contract promises, in the shell that is there."""
    async with await open_docker(replace(SPEC, image=no_python.with_busybox())) as box:
        assert box.facts["shell"] == "/bin/sh"
        assert (await box.run("id -u; pwd; ls -d /tmp; python3 2>&1")).output.decode().splitlines()[:3] == [
            "1000", box.workdir, "/tmp",
        ]  # fmt: skip
        await box.run("mkdir -p a/b; cd a/b; export KEPT='it'\"'\"'s'; exit 3", keep_session=True)
        assert (await box.run('pwd; echo "$KEPT"', keep_session=True)).output.decode() == f"{box.workdir}/a/b\nit's\n"
        ended = await box.run(
            "sleep 4501 & (setsid sleep 4501 &); trap '' TERM; while :; do sleep 1; done", timeout=0.5
        )
        assert (ended.end, ended.exit_code) == (CommandEnd.TIMEOUT, 124)
        assert b"4501" not in (await box.run("ps -o args | grep -v grep")).output
        left = await box.run("sleep 4502 & echo left")
        assert len(left.still_running) == 1
        await box.run(["kill", str(left.still_running[0])])
        large = await box.run("yes | head -c 50000000", max_output=1000)
        assert (large.total_bytes, large.output_file_complete) == (50_000_000, False)
        await box.write("d/f", b"\xff\0", mode=0o750)
        assert await box.read("d/f") == b"\xff\0"
        assert [(entry.kind, entry.mode) for entry in await box.list("d")] == [(FileKind.FILE, 0o750)]
        before = await box.fingerprint()
        snapshot = await box.snapshot()
        await box.run("rm -r d")
        assert await box.fingerprint() != before
        async with await box.fork(snapshot) as fork:
            assert await fork.read("d/f") == b"\xff\0"


async def test_an_image_of_nothing() -> None:
    """No shell either: programs can be started and files can be used; a script says what is missing."""
    async with await open_docker(replace(SPEC, image=no_python.empty())) as box:
        script = await box.run("echo x")
        assert (script.exit_code, script.output) == (127, b"command not found: /bin/sh\n")
        await box.write("f", b"text")
        assert await box.read("f") == b"text"
        argv = [*BROUGHT_ARGV[: BROUGHT_ARGV.index("-c")], "-c", "print(open('f').read())"]
        assert (await box.run(argv)).output == b"text\n"
        async with await box.fork() as fork:
            assert await fork.read("f") == b"text"
