"""The real SGLang server on this machine's CPU, for tests that carry the mark `sglang`.

What a test asks for is a `Setup`; the server of a setup is started once for a test run, and shared. Everything is
computed in float32, so that results can be compared digit by digit. Installed by `scripts/sglang-cpu.sh`.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from examples.checkpoints import hybrid
from tests.servers import chain_checkpoint, chain_model
from tests.servers.shared import Launch, Server, shared

ROOT = Path(__file__).parents[2]
DEMO_CHECKPOINT = ROOT / "examples" / "demo" / "model"
POOL = 32_768  # tokens in the cache's memory
CONTEXT = 16_384  # of a request
IDLE_SECONDS = 60.0  # in which a server ends what a test has aborted


@dataclass(frozen=True)
class Setup:
    """A checkpoint and how it is served."""

    name: str
    checkpoint: Callable[[], Path]
    options: tuple[str, ...] = ()


HYBRID = Setup("hybrid", hybrid.cached, ("--mamba-radix-cache-strategy", "extra_buffer"))
CHAINS = Setup(
    "chains",
    lambda: chains_checkpoint(),
    ("--mamba-radix-cache-strategy", "extra_buffer", "--mamba-track-interval", "64"),
)
DEMO = Setup("demo", lambda: DEMO_CHECKPOINT, ("--mamba-radix-cache-strategy", "no_buffer"))


def chains_checkpoint() -> Path:
    """The checkpoint of `hybrid` with weights for which every answer is known."""

    def make(folder: Path) -> None:
        chain_checkpoint.save(folder, hybrid.cached(), chain_model.chains())

    sources = (Path(chain_checkpoint.__file__), Path(chain_model.__file__))
    return hybrid.cached("chains", make, *sources)


@cache
def installed() -> bool:
    return (
        subprocess.run([ROOT / "scripts" / "sglang-cpu.sh", "path"], capture_output=True, check=False).returncode == 0
    )


def options(checkpoint: Path, port: int) -> list[str]:
    """What makes SGLang serve a tiny checkpoint on a CPU."""
    flags = {
        "model-path": str(checkpoint),
        "host": "127.0.0.1",
        "port": str(port),
        "device": "cpu",
        "dtype": "float32",
        "mamba-ssm-dtype": "float32",
        "attention-backend": "torch_native",
        "sampling-backend": "pytorch",
        "grammar-backend": "xgrammar",
        "cuda-graph-backend-decode": "disabled",
        "cuda-graph-backend-prefill": "disabled",
        "context-length": str(CONTEXT),
        "max-total-tokens": str(POOL),
        "max-running-requests": "8",
        "max-mamba-cache-size": "96",
        "reasoning-parser": "qwen3",
        "tool-call-parser": "qwen3_coder",
    }
    switches = ("disable-overlap-schedule", "sleep-on-idle", "enable-cache-report", "enable-metrics")
    return [part for name, value in flags.items() for part in (f"--{name}", value)] + [f"--{name}" for name in switches]


@contextmanager
def serve(setup: Setup, folder: Path) -> Iterator[Server]:
    """The server of a setup, below a folder that all workers of a test run share."""
    checkpoint = setup.checkpoint()
    python = str(ROOT / "examples" / "sglang_cpu" / "python")

    def command(port: int) -> Sequence[str]:
        return [python, "-W", "ignore", "-m", "sglang.launch_server", *options(checkpoint, port), *setup.options]

    with shared(folder / setup.name, Launch(command, {"SGLANG_MAMBA_CONV_DTYPE": "float32"})) as server:
        yield server


def ask(server: Server, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """JSON in, JSON out, without any client of ours. GET without a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        text = response.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


def metrics(server: Server) -> dict[str, float]:
    """The server's counters by name, summed over their labels."""
    totals: dict[str, float] = {}
    for line in ask(server, "/metrics").splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.partition("{")[0]
            totals[name] = totals.get(name, 0.0) + float(value)
    return totals


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One for all workers of a test run; PATCHWRIGHT_TEST_SERVERS names one that several runs share (see `main`)."""
    if named := os.environ.get("PATCHWRIGHT_TEST_SERVERS"):
        return Path(named)
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "servers"


@pytest.fixture(scope="session")
def sglang_installed() -> None:
    if not installed():
        pytest.skip("SGLang isn't installed: run scripts/sglang-cpu.sh")


@pytest.fixture(scope="session")
def sglang_hybrid_server(sglang_installed: None, servers_folder: Path) -> Iterator[Server]:
    with serve(HYBRID, servers_folder) as server:
        yield server


@pytest.fixture(scope="session")
def sglang_chains_server(sglang_installed: None, servers_folder: Path) -> Iterator[Server]:
    with serve(CHAINS, servers_folder) as server:
        yield server


@pytest.fixture(scope="session")
def sglang_demo_server(sglang_installed: None, servers_folder: Path) -> Iterator[Server]:
    with serve(DEMO, servers_folder) as server:
        yield server


@pytest.fixture
def sglang_hybrid(sglang_hybrid_server: Server) -> Iterator[Server]:
    """Random weights, Qwen3.6's tokenizer, states kept on the grid and at each 256 tokens of an answer."""
    with alone(sglang_hybrid_server):
        yield sglang_hybrid_server


@pytest.fixture
def sglang_chains(sglang_chains_server: Server) -> Iterator[Server]:
    """Weights with which every answer is known (`chain_model`), a state at each 64 tokens of an answer."""
    with alone(sglang_chains_server):
        yield sglang_chains_server


@pytest.fixture
def sglang_demo(sglang_demo_server: Server) -> Iterator[Server]:
    """The demo checkpoint with its own tokenizer, a state where each request ended."""
    with alone(sglang_demo_server):
        yield sglang_demo_server


@contextmanager
def alone(server: Server) -> Iterator[None]:
    """No other test uses the server meanwhile, so its counters are this test's; what the last one left has ended."""
    with server.log.with_name("test").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        deadline = time.monotonic() + IDLE_SECONDS
        while ask(server, "/v1/loads")["loads"][0]["num_total_tokens"] and time.monotonic() < deadline:
            time.sleep(0.1)
        yield


def main(folder: str, *names: str) -> None:
    """`python -m tests.servers.sglang FOLDER [hybrid] [chains] [demo]`: keep servers for several test runs."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        for setup in (HYBRID, CHAINS, DEMO):
            if setup.name in names:
                print(setup.name, stack.enter_context(serve(setup, Path(folder))).url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
