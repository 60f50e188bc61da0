"""Makes environments for small repositories and source distributions from what is detected alone, and tests them.

    scripts/environments.py                       all of them, in every kind of sandbox that works here
    scripts/environments.py --only NAME --kind docker
    scripts/environments.py --table               writes the table in docs/environments.md from what was measured

What was measured is kept in docs/environments.json, so a part can be measured again. One build runs at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox.base import CommandEnd, SandboxError
from sandbox.choose import available
from sandbox.images import Environment, environment_for, run_tests

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "docs/environments.json"
PAGE = ROOT / "docs/environments.md"
EXAMPLES = ROOT / "examples/environments"
BEGIN, END = "<!-- table: scripts/environments.py -->", "<!-- end of the table -->"
DISTRIBUTIONS = (
    "markupsafe==3.0.2",
    "simplejson==3.19.3",
    "wrapt==1.16.0",
    "msgpack==1.1.0",
    "click==8.1.7",
)


@dataclass
class Measured:
    """One repository in one kind of sandbox. Times in seconds."""

    name: str
    kind: str
    ecosystem: str
    seen: str
    packages: list[str]
    steps: list[str]
    test: str
    made: float  # the environment, with everything that was missing for it
    again: float  # the same once more: from the cache
    tests: float
    passed: bool
    said: str  # the last line of the tests' output, or what went wrong


async def measure(name: str, kind: str, folder: Path) -> Measured:
    began = time.monotonic()
    try:
        environment = await environment_for(kind, context=folder, progress=print)
    except SandboxError as error:
        return Measured(name, kind, "", "", [], [], "", round(time.monotonic() - began, 1), 0, 0, False, str(error))
    made = time.monotonic() - began
    began = time.monotonic()
    assert await environment_for(kind, context=folder) == environment
    again = time.monotonic() - began
    began = time.monotonic()
    result = await run_tests(kind, environment, folder)
    tests = time.monotonic() - began
    lines = [line.strip() for line in result.output.decode("utf-8", "replace").splitlines() if line.strip()]
    passed = result.exit_code == 0 and result.end is CommandEnd.EXITED
    print(*lines[-40 if not passed else -3 :], sep="\n")
    return _measured(name, kind, environment, (made, again, tests), passed, _telling(lines))


def _measured(
    name: str, kind: str, environment: Environment, times: tuple[float, float, float], passed: bool, said: str
) -> Measured:
    found = environment.detection
    made, again, tests = (round(seconds, 1) for seconds in times)
    steps = [step.name for step in found.setup.steps]
    seen = found.evidence[0]
    return Measured(
        name, kind, str(found.ecosystem), f"{seen.file}: {seen.seen}", list(found.setup.packages), steps, found.test,
        made, again, tests, passed, said,
    )  # fmt: skip


def _telling(lines: list[str]) -> str:
    """The line that counts the tests, where there is one."""
    words = (
        "passed",
        "passing",
        "tests passed",
        "test result",
        "tests run",
        "runs,",
        "ok (",
        "# pass",
        "# fail",
        "ok\t",
    )
    counts = [line for line in lines if any(word in line.lower() for word in words)]
    counts = [line for line in counts if " 0 passed" not in line] or counts
    return (counts or lines or ["(no output)"])[-1][:120]


@contextmanager
def fetched(requirement: str) -> Iterator[Path]:
    """A source distribution's folder, from the index that pip uses."""
    with tempfile.TemporaryDirectory(prefix="patchwright-sources-") as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary",
                   ":all:", "-d", folder, requirement]  # fmt: skip
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        archive = next(Path(folder).glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        yield next(path for path in Path(folder).iterdir() if path.is_dir())


@contextmanager
def example(name: str) -> Iterator[Path]:
    """A copy of the committed files of an example."""
    with tempfile.TemporaryDirectory(prefix="patchwright-sources-") as folder:
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "."],
            cwd=EXAMPLES / name, check=True, capture_output=True,
        ).stdout.decode().split("\0")  # fmt: skip
        for file in filter(None, files):
            target = Path(folder, file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((EXAMPLES / name / file).read_bytes())
        yield Path(folder)


def free(kind: str, keep: set[str]) -> None:
    """Remove the environments that this run has made: they take room and are made again."""
    from docker.errors import ImageNotFound

    from sandbox.images.engine import connect, own_images
    from sandbox.images.setup_tree import cached_environments, remove_environment

    if kind == "bubblewrap":
        for path in cached_environments():
            if path.name not in keep:
                remove_environment(path)
        return
    client = connect()
    for image in own_images(client):
        if image.id not in keep and not any(tag.endswith(":latest") for tag in image.tags):
            for tag in image.tags or (image.id,):
                with suppress(ImageNotFound):  # with the last tag, or by somebody else
                    client.images.remove(tag, force=True)
    client.close()


def present(kind: str) -> set[str]:
    """What was there before, and isn't ours to remove."""
    from sandbox.images.engine import connect, own_images
    from sandbox.images.setup_tree import cached_environments

    if kind == "bubblewrap":
        return {path.name for path in cached_environments()}
    client = connect()
    found = {image.id for image in own_images(client)}
    client.close()
    return found


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| repository | kind | seen | packages | sandbox | made | again | tests | result |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: (row["ecosystem"], row["name"], row["kind"])):
        result = f"{'passed' if row['passed'] else 'FAILED'}: `{row['said'].splitlines()[0].replace('|', '/')[:80]}`"
        cells = [row["name"], row["ecosystem"], row["seen"], str(len(row["packages"])), row["kind"],
                 f"{row['made']:.0f} s", f"{row['again']:.1f} s", f"{row['tests']:.1f} s", result]  # fmt: skip
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def write_table(rows: list[dict[str, Any]]) -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a name, again for more of them")
    parser.add_argument("--kind", action="append", choices=("docker", "bubblewrap"))
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if MEASURED.exists():
        rows = {f"{row['name']} {row['kind']}": row for row in json.loads(MEASURED.read_text(encoding="utf-8"))}
    kinds = arguments.kind or [fact.kind for fact in available() if fact.usable and fact.kind != "none"]
    names = [*(path.name for path in sorted(EXAMPLES.iterdir()) if path.is_dir()), *DISTRIBUTIONS]
    os.nice(0 if arguments.table else 10)
    for name in [] if arguments.table else [name for name in names if name in (arguments.only or names)]:
        with fetched(name) if "==" in name else example(name) as folder:
            for kind in kinds:
                print(f"=== {name}, {kind}", flush=True)
                keep = present(kind)
                measured = asyncio.run(measure(name, kind, folder))
                free(kind, keep)
                rows[f"{name} {kind}"] = asdict(measured)
                MEASURED.write_text(json.dumps([rows[key] for key in sorted(rows)], indent=1) + "\n", encoding="utf-8")
                print("===", "passed" if measured.passed else "FAILED", measured.said, flush=True)
    write_table(list(rows.values()))
    failed = [key for key, row in rows.items() if not row["passed"]]
    print(f"{len(rows) - len(failed)} of {len(rows)} passed", *failed, sep="\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
