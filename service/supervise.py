"""The service on one machine: the web process and the work process, each started again when it dies.

They share nothing but the database, so either may be killed at any time. A process that dies at once again and again
ends the service, for then a setting is wrong. Left out: what systemd or a container engine does with the whole.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

_SOON = 5.0  # seconds: who dies earlier than this wasn't up
_MOST_EARLY = 3
_STOP_SECONDS = 30.0
WEB = ("-m", "service.server")
WORK = ("-m", "service.work_process")


async def supervise(
    parts: Sequence[tuple[str, Sequence[str]]], environment: Mapping[str, str], say: Callable[[str], None]
) -> int:
    """Run the parts (name, arguments of Python) until SIGINT or SIGTERM; the exit code."""
    stopping = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, stopping.set)
    keepers = [asyncio.create_task(_keep(name, arguments, environment, say)) for name, arguments in parts]
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait([waiting, *keepers], return_when=asyncio.FIRST_COMPLETED)
    gave_up = not stopping.is_set()
    for task in (waiting, *keepers):
        task.cancel()
    await asyncio.gather(waiting, *keepers, return_exceptions=True)
    return 1 if gave_up else 0


async def _keep(
    name: str, arguments: Sequence[str], environment: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Start a part whenever it isn't there; returns when that is no use."""
    early = 0
    while early < _MOST_EARLY:
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env={**os.environ, **environment}, start_new_session=True
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _stop(process)
            raise
        early = early + 1 if time.monotonic() - started < _SOON else 0
        say(f"the {name} process ended with {code}; it is started again")
        await asyncio.sleep(min(2.0**early, 30.0) - 1.0)
    say(f"the {name} process doesn't stay up: see what it said above")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
