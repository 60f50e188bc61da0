"""The two sets of rules of the official harness that are in use, and which parser each takes for a repository.

5 is swebench 5.0.2, 4 is swebench 4.1.0. docs/decisions/0026 says how they are held to the originals.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Semantics(StrEnum):
    """Whose rules count."""

    V5 = "5"
    V4 = "4"

    @property
    def release(self) -> str:
        """The release of the official package that this equals."""
        return "5.0.2" if self is Semantics.V5 else "4.1.0"

    @classmethod
    def named(cls, text: str) -> Semantics | None:
        """The semantics of "5", "5.0.2", "4", "4.1" or "4.1.0", None for "auto"; ValueError for others."""
        if text == "auto":
            return None
        for one in cls:
            if text in (one.value, one.release, one.release.rpartition(".")[0]):
                return one
        raise ValueError(f"there are no semantics {text!r}: auto, 5 (swebench 5.0.2) or 4.1 (4.1.0)")


class GradingFailed(Exception):
    """A log that gets no verdict. The official harness stops on it as well, unless the message says otherwise."""


class Status(StrEnum):
    """What a test runner says of a test."""

    FAILED = "FAILED"
    PASSED = "PASSED"
    SKIPPED = "SKIPPED"
    ERROR = "ERROR"
    XFAIL = "XFAIL"


_FAMILIES: Final = {
    "pytest": (
        "marshmallow-code/marshmallow pallets/flask pvlib/pvlib-python pydata/xarray pylint-dev/astroid"
        " pytest-dev/pytest pyvista/pyvista sqlfluff/sqlfluff"
    ),
    "pytest_options": "psf/requests pydicom/pydicom pylint-dev/pylint",
    "pytest_v2": "astropy/astropy scikit-learn/scikit-learn sphinx-doc/sphinx",
    "django": "django/django",
    "matplotlib": "matplotlib/matplotlib",
    "seaborn": "mwaskom/seaborn",
    "sympy": "sympy/sympy",
    "calypso": "Automattic/wp-calypso",
    "chart_js": "chartjs/Chart.js",
    "marked": "markedjs/marked",
    "p5js": "processing/p5.js",
    "react_pdf": "diegomura/react-pdf",
    "jest": "babel/babel facebook/docusaurus",
    "vitest": "vuejs/core",
    "immutable_js": "immutable-js/immutable-js",
    "tap": "mrdoob/three.js axios/axios",
    "karma": "preactjs/preact",
    "redis": "redis/redis valkey-io/valkey",
    "jq": "jqlang/jq",
    "doctest": "nlohmann/json",
    "micropython_test": "micropython/micropython",
    "googletest": "fmtlib/fmt",
    "gotest": "caddyserver/caddy hashicorp/terraform prometheus/prometheus gohugoio/hugo gin-gonic/gin",
    "maven": "google/gson apache/druid javaparser/javaparser",
    "ant": "projectlombok/lombok",
    "gradle_custom": "apache/lucene reactivex/rxjava",
    "phpunit": "phpoffice/phpspreadsheet laravel/framework php-cs-fixer/php-cs-fixer briannesbitt/carbon",
    "jekyll": "jekyll/jekyll",
    "ruby_unit": "fluent/fluentd faker-ruby/faker",
    "rspec_transformed_json": "fastlane/fastlane jordansissel/fpm rubocop/rubocop",
    "cargo": (
        "burntsushi/ripgrep sharkdp/bat astral-sh/ruff tokio-rs/tokio uutils/coreutils nushell/nushell tokio-rs/axum"
    ),
}
_V5_ONLY: Final = {
    "bpmn_js": "bpmn-io/bpmn-js",
    "carbon": "carbon-design-system/carbon",
    "eslint": "eslint/eslint",
    "grommet": "grommet/grommet",
    "highlightjs": "highlightjs/highlight.js",
    "lighthouse": "GoogleChrome/lighthouse",
    "next": "alibaba-fusion/next",
    "openlayers": "openlayers/openlayers",
    "prismjs": "PrismJS/prism",
    "quarto_cli": "quarto-dev/quarto-cli",
}
_ALIASES: Final = {
    "pytest": "astroid flask marshmallow pvlib pyvista sqlfluff xarray",
    "pytest_options": "pydicom requests pylint",
    "pytest_v2": "astropy scikit sphinx",
}
_FAIL_ONLY_V4: Final = frozenset({"chartjs/Chart.js", "processing/p5.js", "markedjs/marked"})
_FAIL_ONLY_V5: Final = _FAIL_ONLY_V4 | {"bpmn-io/bpmn-js", "openlayers/openlayers", "eslint/eslint"}

_OF_REPO_V4: Final = {repo: family for family, repos in _FAMILIES.items() for repo in repos.split()}
_OF_REPO_V5: Final = _OF_REPO_V4 | {repo: family for family, repo in _V5_ONLY.items()}
_OF_ALIAS: Final = {alias: family for family, aliases in _ALIASES.items() for alias in aliases.split()}


def parser_family(semantics: Semantics, repo: str, log_parser: str, forced: str = "") -> str:
    """The name of the parser without `parse_log_`: `forced`, else the row's (5 only), else the repository's.

    GradingFailed when nothing names one. A name is all that is ever taken from a row: source code there is not run.
    """
    if forced:
        return _family(forced)
    if log_parser.strip().lower() == "pytest":  # as SWE-bench Live names it
        return "pytest"
    if semantics is Semantics.V5 and log_parser:
        if not log_parser.startswith("parse_log_"):
            said = log_parser.splitlines()[0][:40]
            raise GradingFailed(f"the row's log parser {said!r} is none of swebench's; choose one with --log-parser")
        return _family(log_parser)
    family = (_OF_REPO_V5 if semantics is Semantics.V5 else _OF_REPO_V4).get(repo)
    if family is None:
        raise GradingFailed(
            f"swebench {semantics.release} has no log parser for {repo} and the row names none; "
            "choose one with --log-parser"
        )
    return family


def _family(name: str) -> str:
    short = name.removeprefix("parse_log_")
    return _OF_ALIAS.get(short, short)


def only_failures_count(semantics: Semantics, repo: str, eval_type: str) -> bool:
    """Whether a test that the log doesn't mention passed: the row says so (5), or the repository is known for it."""
    if semantics is Semantics.V4:
        return repo in _FAIL_ONLY_V4
    return eval_type == "fail_only" if eval_type else repo in _FAIL_ONLY_V5
