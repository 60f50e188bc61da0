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
    found: dict[str, list[float]] = {"session": [], "execute": []}
    await runtime.create_session(CreateBashSessionRequest(startup_timeout=20.0))  # a second is short on a busy machine
    for number in range(WARM + times):
        started = time.perf_counter()
        said = await runtime.run_in_session(BashAction(command="true", timeout=10))
        middle = time.perf_counter()
        done = await runtime.execute(Command(command="true", shell=True, timeout=10))
        ended = time.perf_counter()
        if said.exit_code != 0 or done.exit_code != 0:
            sys.exit(f"`true` failed: {said} {done}")
        if number >= WARM:
            found["session"].append((middle - started) * 1e3)
            found["execute"].append((ended - middle) * 1e3)
    await runtime.close_session(CloseBashSessionRequest())
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
