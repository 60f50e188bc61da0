"""Having the published images of many instances before a run needs them, and saying how that goes.

Left out: what is done with those that can't be had (`environment`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from evals.environments.base import EnvironmentUnavailable, Tell
from evals.environments.environment import ENGINES, published_name
from evals.environments.options import Options
from evals.environments.pull import Trouble
from evals.instance import Instance
from sandbox.base import SandboxError

AT_ONCE: Final = 3


@dataclass(slots=True)
class Prepulled:
    """Image by instance, and why there is none by instance."""

    images: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


async def prepull(
    instances: Sequence[Instance],
    *,
    kind: str,
    options: Options,
    progress: Tell,
    at_once: int = AT_ONCE,
    seen_to: Callable[[str], None] = lambda instance_id: None,
) -> Prepulled:
    """Pull what isn't in the engine, `at_once` at a time; a line for each image that comes or doesn't.

    `seen_to` is told the id of each instance whose image is there, or can't be had.

    A full disk ends it, since each further image would fail too: EnvironmentUnavailable, and what came stays. What
    has no image is only noted: a recipe may serve it. Bundled tasks have none.
    """
    found = Prepulled()
    places = asyncio.Semaphore(at_once)
    wanted = [one for one in instances if not one.rest.get("bundled")] if kind in ENGINES else []

    async def one(instance: Instance) -> None:
        async with places:
            name, failed = await published_name(instance, kind, options, progress)
        if failed is not None and failed.trouble is Trouble.DISK:
            raise EnvironmentUnavailable(
                f"{len(found.images)} of {len(wanted)} images are here, and for {failed.name} there is {failed.said}",
                again=True,
            )
        if name:
            found.images[instance.instance_id] = name
        else:
            found.missing[instance.instance_id] = str(failed or "no name is known")
        seen_to(instance.instance_id)
        done = len(found.images) + len(found.missing)
        progress(
            f"images: {done} of {len(wanted)}; {instance.instance_id}: {name or found.missing[instance.instance_id]}"
        )

    tasks = [asyncio.create_task(one(instance)) for instance in wanted]
    try:
        await asyncio.gather(*tasks)
    except SandboxError as problem:
        raise EnvironmentUnavailable(str(problem), again=True) from problem
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found
