"""What is installed in an image, asked of the image itself: Python, its packages, the distribution's.

Asked once per image and kept in the cache. Left out: what an image is called and who made it (`environment`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evals.predictions import write_whole
from sandbox.base import ImageProblem, SandboxError
from sandbox.images.cache import cache_dir

if TYPE_CHECKING:
    from docker.models.images import Image

_SECONDS: Final = 120.0
# Any Python from 3.6 on: a published image may have an old one. Sorted and without duplicates, so it can be hashed.
_ASK: Final = r"""
import json, os, platform, re, sys
try:
    from importlib.metadata import distributions
    found = {(d.metadata["Name"] or "?") + "==" + (d.version or "?") for d in distributions()}
except ImportError:
    import pkg_resources
    found = {d.project_name + "==" + d.version for d in pkg_resources.working_set}
system = []
try:
    with open("/var/lib/dpkg/status", errors="replace") as file:
        for entry in file.read().split("\n\n"):
            fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", entry, re.M))
            if fields.get("Status", "").endswith(" installed"):
                system.append(fields.get("Package", "?") + "=" + fields.get("Version", "?"))
except OSError:
    pass
release = {}
try:
    with open("/etc/os-release") as file:
        release = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
except OSError:
    pass
print(json.dumps({
    "python": platform.python_version(), "packages": sorted(found, key=str.lower), "system": sorted(system),
    "os": release.get("PRETTY_NAME", "").strip('"'), "machine": platform.machine(),
}))
"""


async def facts_of(kind: str, image: str, workdir: str) -> dict[str, Any]:
    """Digest, Python, packages and their hash, the distribution's packages as a hash. Raises SandboxError."""
    if kind == "none":
        return {"kind": kind, "digest": ""}
    digest = digest_of(kind, image)
    file = cache_dir() / "facts" / f"{hashlib.sha256(f'{kind} {digest}'.encode()).hexdigest()[:16]}.json"
    said = _read(file)
    if said is None:
        said = await _asked(kind, image, workdir)
        write_whole(file, json.dumps(said) + "\n")
    system = said.pop("system")
    return {
        "kind": kind,
        "digest": digest,
        **said,
        "packages_sha256": hash_of(said["packages"]),
        "system_packages": len(system),
        "system_sha256": hash_of(system),
    }


def hash_of(lines: list[str]) -> str:
    """sha256 of the lines, each with a newline."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def digest_of(kind: str, image: str) -> str:
    """What names the image's content: an engine's id of it, or the name of a root folder of the cache."""
    if kind == "bubblewrap":
        return Path(image).name
    return str(_in_engine(kind, image).id)


def published_digest(kind: str, image: str) -> str:
    """The registry's digest of an image that was pulled, "" where the engine knows none."""
    listed = _in_engine(kind, image).attrs.get("RepoDigests") or []
    return str(listed[0]).rpartition("@")[2] if listed else ""


def is_there(kind: str, image: str) -> bool:
    """Whether an image that was ready once still is: others may have made room."""
    if kind == "none":
        return True
    if kind == "bubblewrap":
        return Path(image).is_dir()
    try:
        _in_engine(kind, image)
    except SandboxError:
        return False
    return True


def _in_engine(kind: str, image: str) -> Image:
    from sandbox.images.engine import connect, find_image

    client = connect(kind)
    try:
        found = find_image(client, image)
    finally:
        client.close()
    if found is None:
        raise ImageProblem(f"the image {image} isn't in the engine any more.\nTry: the same call again.")
    return found


def _read(file: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and {"python", "packages", "system"} <= said.keys() else None


async def _asked(kind: str, image: str, workdir: str) -> dict[str, Any]:
    from sandbox.choose import open_sandbox
    from sandbox.images import enter
    from sandbox.policy import SandboxSpec

    sandbox = await open_sandbox(kind, SandboxSpec(image=image or None, workdir=workdir, labels={"run": "facts"}))
    try:
        await enter(sandbox)  # an editable install of the old kind says in the work folder what it is
        result = await sandbox.run(["python", "-c", _ASK], timeout=_SECONDS, max_output=8 << 20)
        if result.exit_code in (126, 127):
            result = await sandbox.run(["python3", "-c", _ASK], timeout=_SECONDS, max_output=8 << 20)
        if result.exit_code in (126, 127):  # an image without Python, for another language
            return {"python": "", "packages": [], "system": []}
    finally:
        await sandbox.close()
    try:
        said = json.loads(result.output.decode("utf-8", "replace").splitlines()[-1])
    except (ValueError, IndexError):
        tail = result.output.decode("utf-8", "replace").strip()[-400:]
        raise ImageProblem(f"{image} can't say what is installed in it: {tail}\nTry: run `python -V` in it.") from None
    return dict(said)


def as_record(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in short, as a record of an attempt keeps them: the list of packages only as its hash."""
    return {name: value for name, value in facts.items() if name != "packages"}
