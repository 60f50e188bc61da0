"""From an instance to an environment that is ready: bundled, published, or built from a recipe.

A published image is taken where a registry has it, because it is what official verdicts were made in; else the recipe
that names the instance or its version. Whichever it was is in the facts. Left out: what is run there (`evals.judging`).
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.ends import InputProblem
from agent.environments import checked_out
from agent.git import GitError
from evals.environments.base import EnvironmentUnavailable, InstanceEnvironment, Source, Tell
from evals.environments.closing import closed
from evals.environments.code import Code, code_of
from evals.environments.facts import facts_of, is_there, published_digest
from evals.environments.options import Options, Prefer
from evals.environments.published import is_foreign, registry_of, workdir_of
from evals.environments.pull import PullFailed, Trouble, pull, worst
from evals.environments.recipes import Recipe, Recipes
from evals.instance import Instance
from sandbox.base import ImageProblem, SandboxError
from sandbox.scratch import scratch

TESTBED: Final = "/testbed"
ENGINES: Final = ("docker", "podman")
_TODO: Final = {
    None: "Use Docker or Podman, or give a recipe with --recipes.",
    Trouble.RATE: "Log in to the registry (`docker login`), name a mirror (--image-mirror), or try again later.",
    Trouble.DISK: "Make room and resume.",
    Trouble.FOREIGN: "It would be emulated and slow: use a machine of that kind, or give a recipe (--recipes).",
    Trouble.MISSING: "Name another place with --image-names, or give a recipe with --recipes.",
    Trouble.UNREACHABLE: "Check the network, name a mirror (--image-mirror), `docker load` it, or give a recipe.",
    Trouble.OTHER: "Pull it by hand to see more, or give a recipe with --recipes.",
}


def _silent(_: str) -> None:
    """The progress of a caller that wants none."""


async def environment_of(
    instance: Instance,
    *,
    kind: str,
    recipes: Recipes,
    repositories: Path | None = None,
    progress: Tell = _silent,
    options: Options | None = None,
) -> InstanceEnvironment:
    """The environment of an instance, made where it isn't there: seconds to minutes, waiting for rate limits hours.

    `kind` as `sandbox.choose` has it, `auto` too. `repositories`: a folder with clones (`code`). `options`: the same
    for all instances of a run. `progress` gets lines, also from other threads. Raises EnvironmentUnavailable.
    """
    from sandbox.choose import choose

    options = options or Options()
    try:
        kind = await choose(kind)
        key = (kind, instance.instance_id, instance.base_commit, str(repositories))
        async with options.lock(key):
            made = options.known(key)
            if made is None or not await asyncio.to_thread(is_there, kind, made.image):
                made = await _of_task(instance, kind, options, progress)
                if made is None:
                    code = await code_of(instance, repositories, progress)
                    made = await _made(instance, kind, code, recipes, options, progress)
                options.keep(key, made)
            return made
    except (ImageProblem, InputProblem, GitError) as problem:
        raise EnvironmentUnavailable(f"{instance.instance_id}: {problem}", again=_passes_by(str(problem))) from problem
    except (SandboxError, OSError) as problem:
        raise EnvironmentUnavailable(f"{instance.instance_id}: {problem}", again=True) from problem


async def _of_task(instance: Instance, kind: str, options: Options, tell: Tell) -> InstanceEnvironment | None:
    """A Terminal-Bench task brings its code in its image; None for all other instances."""
    from evals.terminal.tasks import is_terminal

    if not is_terminal(instance):
        return None
    from evals.terminal.environment import environment_of_task

    return await environment_of_task(instance, kind, options, tell)


def _passes_by(said: str) -> bool:
    """Whether a build's failure may be the moment's: the network, the disk."""
    signs = ("no network", "free space", "No space left", "Read timed out", "Connection", "temporarily", "try again")
    return any(sign in said for sign in signs)


async def _made(
    instance: Instance, kind: str, code: Code, recipes: Recipes, options: Options, tell: Tell
) -> InstanceEnvironment:
    recipe = recipes.find(instance)
    if instance.rest.get("bundled"):
        return await _bundled(instance, kind, code, tell)
    failed: PullFailed | None = None
    if kind in ENGINES and options.prefer is not Prefer.RECIPE:
        name, failed = await published_name(instance, kind, options, tell)
        if name:
            return await _published(instance, kind, code, name, recipe, tell)
    if failed and failed.trouble in (Trouble.RATE, Trouble.DISK):
        raise EnvironmentUnavailable(_no_image(instance, kind, failed, recipe), again=True)
    if recipe is None or options.prefer is Prefer.PUBLISHED:
        again = failed is not None and failed.trouble in (Trouble.UNREACHABLE, Trouble.OTHER)
        raise EnvironmentUnavailable(_no_image(instance, kind, failed, recipe), again=again)
    if failed:
        tell(f"{instance.instance_id}: no published image ({failed.trouble}: {failed.said}); building {recipe.name}")
    return await _built(instance, kind, code, recipe, options, tell)


def _no_image(instance: Instance, kind: str, failed: PullFailed | None, recipe: Recipe | None) -> str:
    """What there is not, why, and what to do."""
    if failed is None:
        why = (
            f"with {kind} there are no published images"
            if kind not in ENGINES
            else "published images weren't asked for"
        )
    else:
        why = f"{failed.name} can't be pulled ({failed.trouble}): {failed.said}"
    version = f"{instance.repo} {instance.version}".strip()
    has = f"the recipe {recipe.name} serves it" if recipe else f"no recipe names it or {version}"
    todo = _TODO[failed.trouble if failed else None]
    return f"there is no environment for {instance.instance_id}: {why}; {has}. {todo}"


# -- bundled


async def _bundled(instance: Instance, kind: str, code: Code, tell: Tell) -> InstanceEnvironment:
    """The base image, with the distribution's packages that the task names."""
    from sandbox.images import ImageConfig, environment_for

    wanted = instance.rest.get("packages") or ()
    packages = tuple(str(name) for name in wanted) if isinstance(wanted, (list, tuple)) else ()
    with scratch("bundled") as empty:
        made = await environment_for(
            kind,
            context=empty,
            image=instance.image or None,
            config=ImageConfig(packages=packages),
            workdir=None if kind == "none" else TESTBED,
            progress=tell,
        )
    facts = {"source": Source.BUNDLED.value, "image": instance.image, **await facts_of(kind, made.image, made.workdir)}
    return InstanceEnvironment(
        kind, made.image, made.workdir, code.repository, code.commit, facts={**facts, "code": code.said}
    )


# -- published


async def published_name(instance: Instance, kind: str, options: Options, tell: Tell) -> tuple[str, PullFailed | None]:
    """The first of the instance's images that is in the engine or can be pulled; else why there is none."""
    machine = await asyncio.to_thread(_machine_of, kind)
    failures: list[PullFailed] = []
    for name in options.names.of(instance, machine):
        if await asyncio.to_thread(_is_in_engine, kind, name):
            return name, None
        if is_foreign(name, machine):
            failures.append(PullFailed(name, f"no matching manifest: it is for x86_64, and this machine is {machine}"))
        elif said := options.closed(registry_of(name)):
            failures.append(PullFailed(name, said))
        else:
            try:
                await pull(kind, name, options.limiter, tell)
                return name, None
            except PullFailed as failed:
                failures.append(failed)
                if failed.trouble is Trouble.UNREACHABLE:
                    options.close(registry_of(name), failed.said)
    return "", worst(failures)


def _machine_of(kind: str) -> str:
    """The engine's processor, which may be another machine's than ours."""
    from sandbox.images.engine import connect

    client = connect(kind)
    try:
        return str(client.info().get("Architecture") or platform.machine())
    finally:
        client.close()


def _is_in_engine(kind: str, name: str) -> bool:
    from sandbox.images.engine import connect, find_image

    client = connect(kind)
    try:
        return find_image(client, name) is not None
    finally:
        client.close()


async def _published(
    instance: Instance, kind: str, code: Code, name: str, recipe: Recipe | None, tell: Tell
) -> InstanceEnvironment:
    from sandbox.images import environment_for

    with scratch("published") as empty:
        made = await environment_for(
            kind, context=empty, image=name, workdir=workdir_of(instance) or TESTBED, progress=tell
        )
    safe = await closed(kind, made.image, made.workdir, code, instance, tell)
    facts: dict[str, Any] = {
        "source": Source.PUBLISHED.value,
        "image": name,
        "image_digest": await asyncio.to_thread(published_digest, kind, name),
        **await facts_of(kind, safe.image, made.workdir),
        "code": code.said,
        "leaks": list(safe.leaks),
    }
    if recipe is not None and recipe.wants_network:  # there is none in our sandboxes, whoever made the image
        facts["wants_network"] = list(recipe.wants_network)
    return InstanceEnvironment(kind, safe.image, made.workdir, code.repository, code.commit, facts=facts)


# -- built


async def _built(
    instance: Instance, kind: str, code: Code, recipe: Recipe, options: Options, tell: Tell
) -> InstanceEnvironment:
    from evals.environments.build import WORKDIR, build

    async with checked_out(code.repository, code.commit) as checkout, options.builds:
        built = await asyncio.to_thread(build, kind, recipe, checkout.folder, tell)
    installed = await facts_of(kind, built.image, WORKDIR)
    _check_python(instance, recipe, installed)
    safe = await closed(kind, built.image, WORKDIR, code, instance, tell)
    facts = {
        "source": Source.RECIPE.value,
        "recipe": recipe.name,
        "recipe_sha256": recipe.sha256,
        "release": built.base,
        "shared": Path(built.shared).name if kind == "bubblewrap" else built.shared,
        **installed,
        "code": code.said,
        "wants_network": list(recipe.wants_network),
        "leaks": list(safe.leaks),
    }
    return InstanceEnvironment(
        kind,
        safe.image,
        WORKDIR,
        code.repository,
        code.commit,
        dict(recipe.env),
        recipe.setup,
        recipe.test_command,
        facts,
    )


def _check_python(instance: Instance, recipe: Recipe, facts: Mapping[str, Any]) -> None:
    if not str(facts["python"]).startswith(f"{recipe.python}."):
        raise EnvironmentUnavailable(
            f"{instance.instance_id}: the recipe {recipe.name} wants Python {recipe.python}, and its image has "
            f"{facts['python']}: change the recipe, or build on a machine whose distribution has that version"
        )
