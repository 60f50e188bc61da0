"""The real router before two scripted servers: runs stay where their prefix is, and new ones are spread."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.models.http_client import open_transport
from runtime.models.script_file import load_script
from runtime.models.scripted import ScriptedServer
from runtime.serving.reasons import ROUTING_HEADER
from tests.servers.router import routed

SCRIPT = Path(__file__).parents[3] / "examples/scripts/look_and_submit.json"

pytestmark = pytest.mark.heavy  # `make test` doesn't install the router


async def test_affinity_by_routing_key(tmp_path: Path) -> None:
    served: list[int] = []
    slow = replace(load_script(SCRIPT), token_delay=0.2)
    servers = [ScriptedServer(slow, record=False, on_done=lambda _, n=n: served.append(n)) for n in range(2)]
    for server in servers:
        await server.start()
    try:
        async with routed([server.url for server in servers], tmp_path) as url:

            async def turn(key: str) -> int:
                transport = open_transport(url, idle_timeout=60)
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
        for server in servers:
            await server.close()
