"""`agent model serve` with the real llama.cpp server: our options are taken, and the shared prefix is read."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.ids import Ids
from runtime.models.base import Sampling
from runtime.models.connect import connect
from tests.runtime.serving.test_process import alive, descendants, free_port, until
from tests.servers import llamacpp

pytestmark = [
    pytest.mark.llamacpp,
    pytest.mark.skipif(llamacpp.installed() is None, reason="llama.cpp isn't built: run scripts/llama-server.sh"),
]


async def test_served_asked_and_stopped(tmp_path: Path) -> None:
    weights = tmp_path / "Qwen3.5-0.8B-Q4_K_M.gguf"  # a plan needs dimensions, which go by the name of a GGUF
    weights.symlink_to(llamacpp.tiny_model())
    port = free_port()
    command = [sys.executable, "-m", "cli.main", "model", "serve", str(weights), "--device", "cpu", "--json"]
    process = subprocess.Popen(
        [*command, "--context", "32768", "--port", str(port), "--", "--threads", "1"],
        env={**os.environ, "PATCHWRIGHT_LLAMA_SERVER": str(llamacpp.installed()), "PATCHWRIGHT_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        *_, warmed, ready = until(process, "ready")
        assert int(warmed["doing"].removeprefix("has the shared prefix of ").split()[0].replace(",", "")) > 1000
        model = await connect(ready["url"])
        assert (model.facts.engine, model.name, model.context_length) == ("llamacpp", "Qwen3.5-0.8B", 32_768)
        written = [chunk async for chunk in model.stream(Ids([5, 6, 7]), Sampling(max_new_tokens=4), request_id="r")]
        assert written[-1].usage.completion_tokens == 4
        await model.close()
        numbers = descendants(process.pid)
        assert len(numbers) == 2  # the keeper and the server
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert alive(numbers) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        process.stdout.close()
