"""The real router before two scripted servers: runs stay where their prefix is, and new ones are spread."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.models.http_client import open_transport
from runtime.models.script_file import load_script
from runtime.models.scripted import ScriptedServer
from runtime.serving.process import ServerProcess
from runtime.serving.reasons import ROUTING_HEADER
from runtime.serving.recipes import Address, Programs, router_command
from tests.runtime.serving.test_process import free_port

SCRIPT = Path(__file__).parents[3] / "examples/scripts/look_and_submit.json"
PYTHON = os.environ.get("PATCHWRIGHT_ROUTER_PYTHON") or sys.executable

pytestmark = pytest.mark.skipif(
    "PATCHWRIGHT_ROUTER_PYTHON" not in os.environ and importlib.util.find_spec("sglang_router") is None,
    reason="sglang-router isn't installed here: name a python that has it in PATCHWRIGHT_ROUTER_PYTHON",
)


async def test_affinity_by_routing_key(tmp_path: Path) -> None:
    served: list[int] = []
    slow = replace(load_script(SCRIPT), token_delay=0.2)
    servers = [ScriptedServer(slow, record=False, on_done=lambda _, n=n: served.append(n)) for n in range(2)]
    for server in servers:
        await server.start()
    command = router_command(
        [server.url for server in servers], Address(port=free_port()), Programs(router_python=PYTHON)
    )
    router = await ServerProcess.start(command, tmp_path)
    try:
        await router.ready(120, lambda *_: None)

        async def turn(key: str) -> int:
            transport = open_transport(command.address.url, idle_timeout=60)
            body = json.dumps({"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 5}}).encode()
            response = await transport.send("POST", "/generate", body, {ROUTING_HEADER: key})
            await response.read()
            await response.close()
            await transport.close()
            return response.status

        first = []
        for number in range(6):  # runs that begin one after the other and go on at the same time
            first.append(asyncio.create_task(turn(f"run {number}")))
            await asyncio.sleep(0.05)
        assert await asyncio.gather(*first) == [200] * 6
        assert sorted(served) == [0, 0, 0, 1, 1, 1]
        for number in range(6):
            served.clear()
            for _ in range(3):
                await turn(f"run {number}")
            assert len(set(served)) == 1
    finally:
        await router.stop()
        for server in servers:
            await server.close()
