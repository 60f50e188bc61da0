"""A real vLLM on this machine's CPU with a tiny hybrid model, for tests that carry the mark `vllm`.

Installed by `scripts/vllm-cpu.sh`. vLLM computes Gated DeltaNet on CPUs in bfloat16 only, so results aren't compared
digit by digit; the checkpoint's answers are sure enough for that (`chain_model`). Its kernels take heads of Gated
DeltaNet with 64 or 128 numbers only, and die of a prompt of which a single token is left to compute.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from examples.checkpoints import hybrid
from tests.servers import chain_checkpoint, chain_model
from tests.servers.shared import Launch, Server, shared

ROOT = Path(__file__).parents[2]
CONTEXT = 4096
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT / "tests" / "servers" / "vllm_site"),
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


@cache
def installed() -> Path | None:
    """The python that has vLLM."""
    done = subprocess.run([ROOT / "scripts" / "vllm-cpu.sh", "path"], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def checkpoint() -> Path:
    """The tiny hybrid with heads that vLLM's kernels take, and weights whose answers are known."""
    here = Path(__file__)
    sources = (here, Path(chain_model.__file__), Path(chain_checkpoint.__file__))
    return hybrid.cached("vllm", _make, *sources)


def _make(folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    base = hybrid.cached()
    config = AutoConfig.from_pretrained(base)
    config.linear_key_head_dim = config.linear_value_head_dim = 64
    torch.manual_seed(0)
    wide = folder.with_name(folder.name + ".wide")
    shutil.copytree(base, wide, ignore=shutil.ignore_patterns("*.safetensors"))
    try:
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(wide)
        chain_checkpoint.save(folder, wide, chain_model.chains())
    finally:
        shutil.rmtree(wide)


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[Server]:
    """The server, below a folder that all workers of a test run share."""
    python = installed()
    if python is None:
        pytest.skip("vLLM isn't installed: run scripts/vllm-cpu.sh")
    model = checkpoint()

    def command(port: int) -> Sequence[str]:
        flags = {
            "--model": str(model),
            "--served-model-name": "tiny",
            "--host": "127.0.0.1",
            "--port": str(port),
            "--dtype": "bfloat16",
            "--max-model-len": str(CONTEXT),
            "--max-num-seqs": "8",
        }
        given = (part for flag in flags.items() for part in flag)
        switches = ("--enforce-eager", "--enable-prefix-caching", "--enable-prompt-tokens-details")
        return [str(python), "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server", *given, *switches, *options]

    with shared(folder / "vllm", Launch(command, ENVIRONMENT)) as running:
        yield running


@pytest.fixture(scope="session")
def vllm_server(servers_folder: Path) -> Iterator[Server]:
    with serve(servers_folder) as server:
        yield server
