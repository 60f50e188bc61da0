"""The keeper of a server: what the killed had in shared memory goes with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runtime.serving import keeper

SERVER = """
import mmap, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
maps = []
for name in sys.argv[1:]:
    file = open(name, "ab+")
    file.truncate(100)
    maps.append(mmap.mmap(file.fileno(), 100))
print("up", flush=True)
time.sleep(60)
"""


def test_shared_memory_of_a_killed_server_is_removed(tmp_path: Path) -> None:
    own = Path(f"/dev/shm/patchwright-test-{tmp_path.name}-{os.getpid()}")
    foreign = own.with_name(own.name + "-before")
    foreign.touch()
    command = [sys.executable, "-I", keeper.__file__, "0.2", sys.executable, "-c", SERVER, str(own), str(foreign)]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as kept:
            assert kept.stdin is not None and kept.stdout is not None
            assert kept.stdout.readline() == "up\n"
            assert own.exists()
            kept.stdin.close()
            assert kept.wait(20) == 128 + 9
        assert not own.exists()
        assert foreign.exists()
    finally:
        foreign.unlink()
