"""The official package's own parsers and report function, run without what the package imports for other purposes.

Grading needs eight small modules of `swebench`; importing the package loads Docker, Modal and `datasets` as well, and
takes seconds. Here only the wanted modules are executed, from an installed package or from its wheel in the cache
(`scripts/swebench.sh`), under stand-ins for their parents. So both releases work in one process, without their 40
dependencies. Used for languages that we have no parser for, and as the referee (`agent eval regrade --official`).

Left out: installing anything. Code that is run is that of a release whose name and version are known, never a row's.
"""

from __future__ import annotations

import importlib
import re
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from evals.grading.semantics import GradingFailed, Semantics
from evals.instance import Instance

PARSE_SECONDS: Final = 60
"""How long an official parser may take over a log; its expressions can take exponential time on a hostile one."""

_PARENTS: Final = ("swebench", "swebench.harness", "swebench.harness.test_spec")
_ANSI: Final = re.compile(r"\x1B(?:[@-Z\\-_]|\[[0-?]*[ -/]*[@-~])")


def cached_wheel(semantics: Semantics) -> Path:
    """Where the release's wheel lies, if it was fetched."""
    from sandbox.images.cache import cache_dir

    return cache_dir() / "swebench" / f"swebench-{semantics.release}-py3-none-any.whl"


def _home(semantics: Semantics) -> Path:
    """A folder or wheel that holds the release. GradingFailed with what to do otherwise."""
    try:
        installed = metadata.distribution("swebench")
    except metadata.PackageNotFoundError:
        installed = None
    if installed is not None and installed.version == semantics.release:
        return Path(str(installed.locate_file("")))
    wheel = cached_wheel(semantics)
    if wheel.is_file():
        return wheel
    raise GradingFailed(
        f"this needs swebench {semantics.release}: run scripts/swebench.sh, or put its wheel at {wheel}"
        " (pip download --no-deps)"
    )


@cache
def official_modules(semantics: Semantics) -> dict[str, ModuleType]:
    """`grading` and `log_parsers` of the release, loaded once."""
    home = _home(semantics)
    with _stand_ins(home):
        try:
            return {
                name: importlib.import_module(f"swebench.harness.{name}")
                for name in ("constants", "log_parsers", "grading")
            }
        except (ImportError, SyntaxError) as error:
            raise GradingFailed(f"swebench {semantics.release} at {home} can't be loaded: {error}") from error


@contextmanager
def _stand_ins(home: Path) -> Iterator[None]:
    """`swebench` as packages that only know their folder; what was imported under that name before comes back."""
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "swebench"}
    for name in _PARENTS:
        package = ModuleType(name)
        package.__path__ = [str(home.joinpath(*name.split(".")))]
        sys.modules[name] = package
    spec = ModuleType("swebench.harness.test_spec.test_spec")  # 4.1 has the class here, 5 in swebench.types
    vars(spec)["TestSpec"] = types.SimpleNamespace
    tools = ModuleType("swebench.harness.utils")
    vars(tools)["ansi_escape"] = lambda text: _ANSI.sub("", text)
    newer = ModuleType("swebench.utils")
    vars(newer)["ansi_escape"] = vars(tools)["ansi_escape"]
    sys.modules |= {module.__name__: module for module in (spec, tools, newer)}
    try:
        yield
    finally:
        for name in [*sys.modules]:
            if name.partition(".")[0] == "swebench":
                del sys.modules[name]
        sys.modules.update(before)


def official_parser(family: str, instance: Instance, semantics: Semantics) -> Callable[[str], dict[str, str]]:
    """The release's own parser, by the name that it has there. GradingFailed when there is none, or it fails."""
    parsers = official_modules(semantics)["log_parsers"]
    table = getattr(parsers, "PARSER_REGISTRY", None) or _by_name(parsers.MAP_REPO_TO_PARSER)
    parse = table.get(f"parse_log_{family}")
    if parse is None:
        raise GradingFailed(f"swebench {semantics.release} has no parser parse_log_{family[:60]}")
    spec = _spec(instance, family, semantics)

    def guarded(text: str) -> dict[str, str]:
        with _stops(semantics):
            found: dict[str, str] = parse(text, spec)
            return found

    return guarded


def _by_name(parsers: dict[str, Any]) -> dict[str, Any]:
    return {parser.__name__: parser for parser in parsers.values()}


def official_report(
    instance: Instance, log_path: Path, semantics: Semantics, *, patch_is_none: bool = False, parser: str = ""
) -> dict[str, Any]:
    """`get_eval_report` of the release itself; the same object as `verdict.report` gives."""
    from evals.grading.semantics import parser_family

    family = parser_family(semantics, instance.repo, instance.log_parser, parser)
    patch = None if patch_is_none else ""
    prediction = {"instance_id": instance.instance_id, "model_name_or_path": "", "model_patch": patch}
    grading = official_modules(semantics)["grading"]
    with _stops(semantics):
        said = grading.get_eval_report(
            test_spec=_spec(instance, family, semantics),
            prediction=prediction,
            test_log_path=str(log_path),
            include_tests_status=True,
        )
    report: dict[str, Any] = said[instance.instance_id]
    return report


def _spec(instance: Instance, family: str, semantics: Semantics) -> types.SimpleNamespace:
    """What the official functions read of a test specification; both releases take it by attribute."""
    fail_only = official_modules(semantics)["constants"].FAIL_ONLY_REPOS
    return types.SimpleNamespace(
        instance_id=instance.instance_id,
        repo=instance.repo,
        version=instance.version,
        FAIL_TO_PASS=list(instance.fail_to_pass),
        PASS_TO_PASS=list(instance.pass_to_pass),
        log_parser=f"parse_log_{family}",
        eval_type=instance.eval_type or ("fail_only" if instance.repo in fail_only else "pass_and_fail"),
    )


class _TooLong(Exception):
    pass


@contextmanager
def _stops(semantics: Semantics) -> Iterator[None]:
    """Any failure of the official code as GradingFailed; stops it after PARSE_SECONDS in a main thread."""
    timed = threading.current_thread() is threading.main_thread()

    def ring(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring) if timed else None
    if timed:
        signal.setitimer(signal.ITIMER_REAL, PARSE_SECONDS)
    try:
        yield
    except _TooLong:
        raise GradingFailed(f"swebench {semantics.release} reads this log for more than {PARSE_SECONDS} s") from None
    except Exception as error:  # code of others on hostile input: whatever it raises, there is no verdict
        raise GradingFailed(
            f"swebench {semantics.release} stops on this log: {type(error).__name__}: {error}"
        ) from error
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
