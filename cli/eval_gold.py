"""`agent eval gold`: whether the environments of a data set's instances are sound, and which tests flicker.

Left out: the checks (`evals.judging.gold`), and running a model on the instances (`cli.eval_run`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.eval_options import ALL_GRADED, BAD_INPUT, SOME_FAILED, choosing, chosen_filter, load, printable, table

if TYPE_CHECKING:
    from evals.environments import Options, Recipes
    from evals.instance import Instance
    from evals.judging.gold import GoldCheck, GoldOptions

STORAGE: Final = 9  # as "storage failed" of a run
KNOWN_FILE: Final = "known-tests.json"
CHECKS_FILE: Final = "gold.jsonl"


@click.command()
@click.argument("dataset")
@click.option(
    "--times", type=click.IntRange(1, 100), default=1, show_default=True, help="Runs of each; 3 show flicker."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("gold"), show_default=True, help="For all files.")
@click.option("--sandbox", "kind", default="auto", show_default=True, help="docker, podman, bubblewrap or none.")
@click.option("--recipes", multiple=True, type=click.Path(path_type=Path), help="Recipes of yours. Repeatable.")
@click.option("--repositories", type=click.Path(path_type=Path), help="A folder with clones of the repositories.")
@click.option("--image-names", multiple=True, help="Where published images are looked for. Repeatable.")
@click.option("--image-mirror", default="", help="A registry to ask instead of Docker Hub.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Instances at once.")
@click.option("--timeout", type=click.FloatRange(1), default=1800.0, show_default=True, help="Seconds per run.")
@click.option("--semantics", default="auto", show_default=True, help="Whose rules: 5, 4.1, or the row's.")
@click.option("--log-parser", "parser", default="", help="A parser for all logs, as parse_log_pytest.")
@choosing
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line and instance.")
@click.pass_context
def gold(ctx: click.Context, /, dataset: str, out: Path, split: str, as_json: bool, **said: Any) -> None:
    """Check the environments of DATASET's instances with the answers that are known.

    Each instance is judged without a patch, which has to fail, and with its gold patch, which has to pass, --times
    times each. Instances whose environment is broken are listed, and so are tests that flicker or fail with gold too.
    In --out are then the logs in the official layout, gold.jsonl, and known-tests.json, by which runs say which
    failures are in doubt. No verdict is changed by it. DATASET is a file, a set on the hub, or mini.

    Exit codes: 0 all are sound; 3 some aren't; 6 nothing to check, or no data set; 9 --out can't be written.
    """
    from evals.grading.semantics import Semantics
    from evals.judging.gold import GoldOptions

    try:
        rules = Semantics.named(said["semantics"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--semantics") from error
    wanted = chosen_filter(said["ids"], said["repos"], said["difficulties"], said["part"])
    instances = wanted.apply(_load(ctx, dataset, split))
    if not instances:
        click.echo(f"no instance of {printable(dataset)} is left to check", err=True)
        ctx.exit(BAD_INPUT)
    options = GoldOptions(out, said["times"], said["timeout"], rules, said["parser"])
    run = _Run(said["kind"], _recipes(ctx, said["recipes"]), said["repositories"], _images(said), options, as_json)
    try:
        checks = asyncio.run(run.all(instances, said["workers"]))
    except OSError as error:
        click.echo(f"{out} can't be written ({error.strerror or error}): make room or name another folder", err=True)
        ctx.exit(STORAGE)
    if not as_json:
        click.echo("\n".join(_page(checks, out)))
    ctx.exit(ALL_GRADED if all(check.soundness == "sound" for check in checks) else SOME_FAILED)


def _load(ctx: click.Context, dataset: str, split: str) -> Sequence[Instance]:
    if dataset == "mini":
        from evals.mini.dataset import mini_dataset

        return mini_dataset().instances
    return load(ctx, dataset, split).instances


def _recipes(ctx: click.Context, paths: tuple[Path, ...]) -> Recipes:
    from evals.environments import RecipeBroken, Recipes

    try:
        return Recipes.load(paths)
    except (RecipeBroken, OSError) as error:
        click.echo(f"recipes: {printable(str(error))}", err=True)
        ctx.exit(BAD_INPUT)


def _images(said: dict[str, Any]) -> Options:
    from evals.environments import ImageNames, NameBroken, Options

    try:
        return Options(names=ImageNames.read(said["image_names"], said["image_mirror"]))
    except NameBroken as error:
        raise click.BadParameter(str(error), param_hint="--image-names") from error


@dataclass
class _Run:
    """All checks of one call; what is found is on the disk as soon as it is."""

    kind: str
    recipes: Recipes
    repositories: Path | None
    images: Options
    options: GoldOptions
    as_json: bool
    found: list[GoldCheck] = field(default_factory=list)

    async def all(self, instances: Sequence[Instance], workers: int) -> list[GoldCheck]:
        """The checks in the order of the instances."""
        self.options.folder.mkdir(parents=True, exist_ok=True)
        (self.options.folder / CHECKS_FILE).unlink(missing_ok=True)
        room = asyncio.Semaphore(workers)
        total = len(instances)

        async def one(instance: Instance) -> GoldCheck:
            async with room:
                check = await self._check(instance)
            self._keep(check, total)
            return check

        return await asyncio.gather(*map(one, instances))

    async def _check(self, instance: Instance) -> GoldCheck:
        from evals.environments import EnvironmentUnavailable, environment_of
        from evals.judging.gold import GoldCheck, Soundness, check_gold

        try:
            environment = await environment_of(
                instance,
                kind=self.kind,
                recipes=self.recipes,
                repositories=self.repositories,
                progress=_tell,
                options=self.images,
            )
        except EnvironmentUnavailable as problem:
            return GoldCheck(instance.instance_id, Soundness.UNKNOWN, str(problem))
        return await check_gold(instance, environment, self.options)

    def _keep(self, check: GoldCheck, total: int) -> None:
        from evals.judging.flaky import write_known
        from evals.judging.gold import known_of

        self.found.append(check)
        line = json.dumps(check.row())
        with (self.options.folder / CHECKS_FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        facts = {"times": self.options.times, "checked": len(self.found), "of": total}
        write_known(self.options.folder / KNOWN_FILE, known_of(self.found), facts)
        if self.as_json:
            click.echo(line)
        else:
            _tell(f"{len(self.found)} of {total}: {check.instance_id} is {check.soundness}")


def _tell(line: str) -> None:
    click.echo(printable(line), err=True)


def _page(checks: Sequence[GoldCheck], out: Path) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("instance", "state", "without", "gold", "seconds", "remark")]
    for check in checks:
        runs = (_times(check.unpatched), _times(check.gold))
        seconds = f"{check.seconds:.0f}" if check.gold else "-"
        rows.append((check.instance_id, check.soundness.value, *runs, seconds, printable(check.reason)))
    yield from table(rows)
    for check in checks:
        for what, tests in (("fails with gold", check.failing), ("flickers", check.flaky)):
            yield from (f"{check.instance_id}: {what}: {printable(test)}" for test in tests)
    sound = sum(check.soundness == "sound" for check in checks)
    yield f"{sound} of {len(checks)} sound; {out / KNOWN_FILE} holds the tests to be doubted"


def _times(resolved: tuple[bool, ...]) -> str:
    """How many of the runs were resolved."""
    return f"{sum(resolved)}/{len(resolved)}" if resolved else "-"
