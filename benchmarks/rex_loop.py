"""How long SWE-ReX takes for `true`: run by its own Python, as `rex_loop.py local|PORT:TOKEN`.

`local` is its LocalRuntime: a shell in this process, without a container and without HTTP. Otherwise a server that
runs already is asked. Each line of stdin, `session` or `execute`, is one command; the answer is its milliseconds, or
`failed`. Each is checked for its exit status, which is SWE-ReX's default in sessions. Left out: starting the server.
"""

from __future__ import annotations

import asyncio
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


async def main() -> None:
    where = sys.argv[1]
    logging.disable(logging.CRITICAL)
    runtime: AbstractRuntime = LocalRuntime()
    if where != "local":
        port, token = where.split(":")
        runtime = RemoteRuntime(host="http://127.0.0.1", port=int(port), auth_token=token, timeout=30.0)
    await open_session(runtime)
    print("ready", flush=True)
    for line in sys.stdin:
        print(await once(runtime, line.strip()), flush=True)
    await runtime.close_session(CloseBashSessionRequest())


async def once(runtime: AbstractRuntime, way: str) -> str:
    started = time.perf_counter()
    if way == "execute":
        await runtime.execute(Command(command="true", shell=True, timeout=10, check=True))
        return str((time.perf_counter() - started) * 1e3)
    try:
        await runtime.run_in_session(BashAction(command="true", timeout=10))
    except SwerexException:  # it gives its shell 0.1 s for a prompt, which a busy machine doesn't always keep
        await runtime.close_session(CloseBashSessionRequest())
        await open_session(runtime)
        return "failed"
    return str((time.perf_counter() - started) * 1e3)


async def open_session(runtime: AbstractRuntime) -> None:
    await runtime.create_session(CreateBashSessionRequest(startup_timeout=20.0))  # a second is short on a busy machine


if __name__ == "__main__":
    asyncio.run(main())
