"""A real llama.cpp server with a tiny hybrid model, for tests that carry the mark `llamacpp`.

Installed by `scripts/llama-server.sh`; the model is made once and kept in Patchwright's cache.
"""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from runtime.bpe_vocabulary import cache_folder
from tests.servers.shared import Launch, Server, shared

ROOT = Path(__file__).parents[2]
SLOTS = 4
CONTEXT = 4096  # of each slot


@cache
def installed() -> Path | None:
    """The server's path."""
    done = subprocess.run([ROOT / "scripts" / "llama-server.sh", "path"], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def tiny_model() -> Path:
    """The GGUF, made when it isn't there (10 s, 80 MB)."""
    from examples.checkpoints.chat_template import chat_template
    from tests.servers import tiny_gguf

    server, folder = installed(), cache_folder()
    assert server is not None
    assert folder is not None
    here = Path(__file__).parent
    sources = b"".join((here / name).read_bytes() for name in ("tiny_gguf.py", "chain_model.py"))
    target = folder / f"tiny-{sha256(sources + chat_template().encode()).hexdigest()[:12]}.gguf"
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            tiny_gguf.write(target.with_suffix(".unfinished"), server.parent / "gguf-py")
            target.with_suffix(".unfinished").rename(target)
    return target


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[Server]:
    """The server, below a folder that all workers of a test run share."""
    server = installed()
    if server is None:
        pytest.skip("llama.cpp's server isn't built: run scripts/llama-server.sh")
    model = tiny_model()

    def command(port: int) -> Sequence[str]:
        flags = {
            "--model": str(model),
            "--alias": "tiny",
            "--host": "127.0.0.1",
            "--port": str(port),
            "--ctx-size": str(CONTEXT * SLOTS),
            "--parallel": str(SLOTS),
            "--threads": "1",
        }
        return [str(server), *(part for flag in flags.items() for part in flag), "--no-warmup", "--slots", *options]

    with shared(folder / "llamacpp", Launch(command, {}, seconds=120)) as running:
        yield running


@pytest.fixture(scope="session")
def llamacpp_server(servers_folder: Path) -> Iterator[Server]:
    with serve(servers_folder) as server:
        yield server
