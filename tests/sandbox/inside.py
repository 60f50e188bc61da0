"""What several tests of sandboxes do inside one, or send into it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from sandbox.machine import GuestSandbox

SECRET = "planted-host-secret-5b1f"


async def python(cell: GuestSandbox, script: str, timeout: float = 60.0) -> str:
    result = await cell.run(["python3", "-c", script], timeout=timeout)
    return result.output.decode()


async def count(box: GuestSandbox, words: str) -> int:
    """How many live processes in the work folder have these words in their command line.

    The folder tells them apart from those of another sandbox: without isolation, everybody's are in sight.
    """
    script = (
        "import os,sys\nn=0\n"
        "for p in os.listdir('/proc'):\n"
        "  if not p.isdigit() or int(p)==os.getpid(): continue\n"
        "  try:\n"
        "    if os.readlink('/proc/'+p+'/cwd') != os.getcwd(): continue\n"
        "    s=open('/proc/'+p+'/stat').read().rpartition(')')[2].split()[0]\n"
        "    n+= s not in 'ZX' and sys.argv[1].replace(' ',chr(0)) in open('/proc/'+p+'/cmdline').read()\n"
        "  except OSError: pass\n"
        "print(n)"
    )
    return int((await box.run(["python3", "-c", script, words])).output)


def reads(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def host_peak() -> int:
    """The most memory that this process has had since the last look, in KiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1])


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, 1_000_000_000
    return info
