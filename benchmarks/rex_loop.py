"""How long SWE-ReX takes for `true`: run by its own Python, as `rex_loop.py local|PORT:TOKEN TIMES`; prints JSON.

`local` is its LocalRuntime: a shell in this process, without a container and without HTTP. Otherwise a server that
runs already is asked. Each command is checked for its exit status, which is SWE-ReX's default. Left out: starting it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

from swerex.exceptions import SwerexException  # type: ignore[import-not-found]
from swerex.runtime.abstract import (  # type: ignore[import-not-found]
    AbstractRuntime,
    BashAction,
    CloseBashSessionRequest,
    Command,
    CreateBashSessionRequest,
)
from swerex.runtime.local import LocalRuntime  # type: ignore[import-not-found]
from swerex.runtime.remote import RemoteRuntime  # type: ignore[import-not-found]

WARM = 3


async def main() -> None:
    where, times = sys.argv[1], int(sys.argv[2])
    logging.disable(logging.CRITICAL)
    runtime: AbstractRuntime = LocalRuntime()
    if where != "local":
        port, token = where.split(":")
        runtime = RemoteRuntime(host="http://127.0.0.1", port=int(port), auth_token=token, timeout=30.0)
    found: dict[str, list[float]] = {"session": [], "execute": [], "failed": []}
    await open_session(runtime)
    while len(found["session"]) < WARM + times:
        started = time.perf_counter()
        try:
            await runtime.run_in_session(BashAction(command="true", timeout=10))
        except SwerexException:  # it gives its shell 0.1 s for a prompt, which a busy machine doesn't always keep
            found["failed"].append(time.perf_counter() - started)
            if len(found["failed"]) > times:
                raise
            await runtime.close_session(CloseBashSessionRequest())
            await open_session(runtime)
            continue
        middle = time.perf_counter()
        await runtime.execute(Command(command="true", shell=True, timeout=10, check=True))
        found["session"].append((middle - started) * 1e3)
        found["execute"].append((time.perf_counter() - middle) * 1e3)
    await runtime.close_session(CloseBashSessionRequest())
    print(json.dumps({**found, "session": found["session"][WARM:], "execute": found["execute"][WARM:]}))


async def open_session(runtime: AbstractRuntime) -> None:
    await runtime.create_session(CreateBashSessionRequest(startup_timeout=20.0))  # a second is short on a busy machine


if __name__ == "__main__":
    asyncio.run(main())
