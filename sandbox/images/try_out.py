"""Using an environment once: its share is put into a new work folder, and its test command is run there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from tarfile import PAX_FORMAT, TarInfo
from tarfile import open as open_tar

from sandbox.base import CommandResult, ImageProblem, Sandbox
from sandbox.choose import open_sandbox
from sandbox.images.environment import Environment
from sandbox.images.setup_context import ENTER
from sandbox.policy import SandboxSpec

DEFAULT_TIMEOUT = 900.0
_ENTER = f'if [ -x {ENTER} ]; then {ENTER} "$1" "$2"; fi'


async def enter(sandbox: Sandbox) -> None:
    """Put into the empty work folder what the image has for it, such as links to installed modules.

    Call it before the checkout. Raises ImageProblem.
    """
    result = await sandbox.run(["/bin/sh", "-c", _ENTER, "sh", sandbox.workdir, sandbox.state_dir])
    if result.exit_code:
        said = result.output.decode("utf-8", "replace").strip()
        raise ImageProblem(f"what the image has for the work folder can't be put there: {said[-800:]}")


async def run_tests(
    kind: str, environment: Environment, context: Path, *, timeout: float = DEFAULT_TIMEOUT
) -> CommandResult:
    """Unpack the repository's files in a new sandbox and run the detected test command. Raises SandboxError."""
    command = environment.detection.test
    if not command:
        raise ImageProblem("no test command is known here.\nTry: `[test] command` in `.patchwright.toml`.")
    spec = SandboxSpec(image=environment.image or None, workdir=environment.workdir, labels={"run": "test"})
    sandbox = await open_sandbox(kind, spec)
    try:
        await enter(sandbox)
        await sandbox.unpack(_packed(context))
        return await sandbox.run(command, cwd=sandbox.workdir, timeout=timeout)
    finally:
        await sandbox.close()


def _packed(context: Path) -> bytes:
    def plain(member: TarInfo) -> TarInfo | None:
        member.uid = member.gid = 0
        return None if member.name == ".git" or member.name.startswith(".git/") else member

    with tempfile.SpooledTemporaryFile(max_size=64 << 20) as file:
        with open_tar(fileobj=file, mode="w", format=PAX_FORMAT) as tar:
            for entry in sorted(context.iterdir()):
                tar.add(entry, arcname=entry.name, filter=plain)
        file.seek(0)
        return file.read()
