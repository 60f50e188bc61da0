"""Ends a shared server when nobody uses it any more: `python -m tests.servers.guard USERS PID STARTED`."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

from tests.servers.shared import kill


def main(users: str, pid: str, started: str) -> None:
    with Path(users).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        kill(int(pid), started)


if __name__ == "__main__":
    main(*sys.argv[1:])
