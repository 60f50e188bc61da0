"""Building images in a Docker engine: from a Dockerfile, or from a base and a set-up command.

The tag is made from everything that goes in (Dockerfile, files, base image), so the same inputs are built once.
Uses the classic builder: it is part of every engine. Which image a run gets is decided in `resolve`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sandbox.base import ImageProblem
from sandbox.docker_engine import look
from sandbox.images import bounds
from sandbox.images.build_settings import CA_IN_CONTEXT, BuildSettings, build_settings, declare, serving_wheels
from sandbox.images.cache import images_dir, locked
from sandbox.images.engine import LABEL, find_image
from sandbox.images.progress import QUIET_SECONDS, Progress, Report, failure, silent, step

if TYPE_CHECKING:
    from docker import DockerClient

ENVIRONMENT_REPOSITORY = "patchwright/environment"
_DOCKERFILE = ".patchwright-build/Dockerfile"
_MTIME = 1_000_000_000  # the same for every file, so that equal contents give equal digests; ZIP can hold it
_STEP = re.compile(r"^Step (\d+/\d+) : (.*)")
_NAMED = re.compile(r'^RUN \["/bin/sh", "-ec", "# ([^\\]+)\\n')  # a step of a set-up
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# A line of the build's output -> what the user can do about it.
_ADVICE = (
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
        "set PIP_CERT or SSL_CERT_FILE to your network's certificate bundle; it is passed into builds.",
    ),
    (
        re.compile(r"[Nn]ame resolution|[Nn]ame or service not known|resolve host|Network is unreachable"),
        "the build has no network: check the engine's network, or set PIP_FIND_LINKS to a folder of wheels.",
    ),
    (
        re.compile(r"No matching distribution|Could not find a version"),
        "the package index that PIP_INDEX_URL names has no such version; change the version or the index.",
    ),
    (
        re.compile(r"fatal error: \S+: No such file|cannot find -l|Package '\S+',? .*not found|not found.*pkg-config"),
        "a library's development files are missing: name their packages in `.patchwright.toml`, "
        "`[sandbox] packages = [...]`.",
    ),
    (
        re.compile(r"[Nn]o space left"),
        "free space for the engine (`docker system df`) or the cache, then run it again.",
    ),
    (
        re.compile(r"no such host|pull access denied|connection refused|manifest unknown", re.IGNORECASE),
        "the FROM image can't be pulled here; `docker load` it, or start from patchwright/base.",
    ),
)
_OTHERWISE = "run that step by hand (`docker build`), mend the Dockerfile or the set-up command, and start again."


@dataclass(frozen=True, slots=True)
class _Context:
    """A build context as an uncompressed tar, and the digest of what is in it."""

    tar: IO[bytes]
    digest: str


@dataclass(slots=True)
class _Output:
    """What a build has said so far."""

    report: Report
    began: float = field(default_factory=time.monotonic)
    step: str = "the first step"
    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        for line in filter(None, (_COLOUR.sub("", line).strip() for line in text.splitlines())):
            self.lines = [*self.lines[-200:], line]
            if match := _STEP.match(line):
                named = _NAMED.match(match[2])
                self.step = f"step {match[1]} `{named[1] if named else match[2]}`"
                seconds = time.monotonic() - self.began
                if seconds > QUIET_SECONDS:
                    self.report(Progress("building the image", seconds, detail=self.step))


def build_dockerfile(client: DockerClient, dockerfile: str, context: Path, *, report: Report = silent) -> str:
    """Build the Dockerfile at a relative path inside the folder `context`; returns the image's tag.

    Raises ImageProblem with the failing step, its last lines and what to try.
    """
    root = context.resolve()
    path = (root / dockerfile).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise ImageProblem(
            f"there is no Dockerfile `{dockerfile}` in the repository's base commit.\n"
            "Try: a path relative to the repository's root in `.patchwright.toml`; commit the file."
        )
    return build_text(client, path.read_text(encoding="utf-8", errors="replace"), root, dockerfile, report)


def build_setup(
    client: DockerClient, base: str, setup: str, context: Path, workdir: str, *, report: Report = silent
) -> str:
    """Run a set-up command over a copy of the repository in `workdir` of image `base`; returns the new image's tag.

    What it installs stays; the copy of the repository doesn't: a run's work folder starts empty.
    """
    clear = f"find {workdir} -mindepth 1 -delete"
    lines = [f"FROM {base}", "USER root", f"COPY . {workdir}", f"WORKDIR {workdir}"]
    lines += [f"RUN {json.dumps(['/bin/sh', '-ec', command])}" for command in (setup, clear)]
    return build_text(client, "\n".join(lines) + "\n", context.resolve(), f"the set-up command `{setup}`", report)


def build_text(client: DockerClient, dockerfile: str, context: Path, source: str, report: Report) -> str:
    """Build a Dockerfile's text over a folder; `source` says in messages what it is. Returns the tag."""
    settings = build_settings(os.environ)
    with tempfile.TemporaryFile() as file:
        with step("packing the build context", report):
            packed = _pack(context, file)
        parts = (dockerfile, packed.digest, *(_image_id(client, name) for name in base_images(dockerfile)))
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
        tag = f"{ENVIRONMENT_REPOSITORY}:{digest}"
        with locked(images_dir(), f"environment-{digest}", report):
            if find_image(client, tag) is None:
                _add_own_files(packed.tar, declare(dockerfile, settings), settings)
                _run_build(client, packed.tar, tag, settings, source, report)
    return tag


def base_images(dockerfile: str) -> list[str]:
    """The images that a Dockerfile's stages start from."""
    joined = re.sub(r"\\\s*\n", " ", dockerfile)
    found = re.findall(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", joined, re.IGNORECASE | re.MULTILINE)
    return list(dict.fromkeys(found))


def _image_id(client: DockerClient, name: str) -> str:
    image = None if "$" in name else find_image(client, name)
    return name if image is None else str(image.id)


def _pack(root: Path, file: IO[bytes]) -> _Context:
    """Pack the context as .dockerignore says, with nothing of the machine's in it (owners, times)."""
    from docker.utils import exclude_paths

    ignore = root / ".dockerignore"
    readable = ignore.is_file() and not ignore.is_symlink()
    patterns = ignore.read_text(encoding="utf-8", errors="replace").splitlines() if readable else []
    wanted = [line.strip() for line in patterns if line.strip() and not line.startswith("#")]
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(exclude_paths(str(root), [*wanted, ".git"])):
            if name:
                tar.add(root / name, arcname=name, recursive=False, filter=_anonymous)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # any binary file serves
    return _Context(file, digest)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = _MTIME
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _add_own_files(file: IO[bytes], dockerfile: str, settings: BuildSettings) -> None:
    own = {_DOCKERFILE: dockerfile.encode()}
    if settings.ca_bundle is not None:
        own[CA_IN_CONTEXT] = settings.ca_bundle.read_bytes()
    file.seek(0)
    with tarfile.open(fileobj=file, mode="a") as tar:
        for name, content in own.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(_anonymous(member), io.BytesIO(content))
    file.seek(0)


def _run_build(
    client: DockerClient, tar: IO[bytes], tag: str, settings: BuildSettings, source: str, report: Report
) -> None:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    for reason in settings.left_out:
        report(Progress(f"not passed into the build: {reason}", 0.0))
    output = _Output(report)
    try:
        with serving_wheels(settings) as arguments, step("building the image", report):
            messages = client.api.build(
                fileobj=tar,
                custom_context=True,
                dockerfile=_DOCKERFILE,
                tag=tag,
                rm=True,
                forcerm=True,
                decode=True,
                network_mode=_network(client, settings),
                container_limits=_limits(client),
                buildargs=arguments | settings.proxies,
                labels={LABEL: "environment"},
            )
            _follow(messages, output, source)
    except (DockerException, RequestException) as error:
        raise ImageProblem(
            failure(f"building {source} failed: {error}", "\n".join(output.lines), _OTHERWISE)
        ) from error


def _follow(messages: Iterable[dict[str, Any]], output: _Output, source: str) -> None:
    for message in messages:
        output.add(message.get("stream") or message.get("status") or "")
        if error := message.get("error"):
            text = "\n".join([*_of_step(output.lines), str(error)])
            raise ImageProblem(failure(f"building {source} failed at {output.step}", text, advice(text)))


def _of_step(lines: list[str]) -> Iterator[str]:
    """The lines since the last step began."""
    starts = [number for number, line in enumerate(lines) if _STEP.match(line)]
    yield from lines[starts[-1] + 1 if starts else 0 :]


def advice(text: str) -> str:
    """What to try about a failed build, by what it printed."""
    return next((advice for pattern, advice in _ADVICE if pattern.search(text)), _OTHERWISE)


def _limits(client: DockerClient) -> dict[str, int] | None:
    """Memory of one step, swap included. Docker's alone: Podman fails to build where it can't bound."""
    engine = look(client)
    if engine.name != "Docker" or not engine.bounds or not engine.memory:
        return None
    most = bounds.most_of(engine.memory)
    return {"memory": most, "memswap": most}


def _network(client: DockerClient, settings: BuildSettings) -> str | None:
    """As the caller asks; the host's where wheels are served on loopback or the engine has no bridge.

    Podman builds with the host's network whatever it is told (seen with 4.3), so it isn't asked to build without.
    """
    if settings.network == "none" and look(client).name == "Podman":
        raise ImageProblem(
            "Podman's socket can't build an image without network, and PATCHWRIGHT_BUILD_NETWORK asks for that.\n"
            "Try: build with Docker or for bubblewrap, or bring the image (`agent sandbox save` and `load`)."
        )
    if settings.network:
        return settings.network
    if settings.wheels or not client.networks.list(names=["bridge"]):
        return "host"
    return None
