"""`python -m agent.forges.fake FOLDER [--port N]`: the fake forge as a program, until it is interrupted."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m agent.forges.fake", description="A stand-in for GitHub, for trying."
    )
    parser.add_argument("folder", type=Path, help="where its repositories and state are kept")
    parser.add_argument("--port", type=int, default=0, help="on the loopback; any free one by default")
    arguments = parser.parse_args()
    try:
        return asyncio.run(_serve(arguments.folder, arguments.port))
    except ImportError as error:
        print(
            f"the fake forge needs the extra `service` ({error}): pip install 'patchwright[service]'", file=sys.stderr
        )
        return 2
    except OSError as error:
        print(f"port {arguments.port} of the loopback can't be had: {error}", file=sys.stderr)
        return 2


async def _serve(folder: Path, port: int) -> int:
    from agent.forges.fake.server import fake_forge

    stopped = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, stopped.set)
    async with fake_forge(folder, port) as forge:
        print(f"{forge.url}  (API: {forge.api}, state: {folder})", flush=True)
        await stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
