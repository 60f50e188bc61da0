"""How the tests of the twelve projects of SWE-bench are run, as swebench 4.1.0 has it: facts, as data.

A test of mark `evals` holds this table to the constants of that release. Left out: which files are tested
(`patches.directives_of`), and projects in other languages (`official_command` reads the release itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PYTEST: Final = "pytest -rA"
_EDITABLE: Final = "python -m pip install -e ."
_DJANGO: Final = "./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1"
_SETUP: Final = "python setup.py install"
_EXPORTS: Final = ("export LANG=en_US.UTF-8", "export LC_ALL=en_US.UTF-8")


@dataclass(frozen=True, slots=True)
class Project:
    """`test` is the command without files; `install` is run again before the tests, since a patch may change what is
    built; `before` are shell lines ahead of everything. The mappings hold the versions that differ."""

    test: str = PYTEST
    install: str = _EDITABLE
    before: tuple[str, ...] = ()
    tests: Mapping[str, str] = field(default_factory=dict)
    installs: Mapping[str, str] = field(default_factory=dict)
    befores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, version: str) -> Project:
        """The commands of one version; those of the usual ones where it isn't known."""
        return Project(
            self.tests.get(version, self.test),
            self.installs.get(version, self.install),
            self.befores.get(version, self.before),
        )


def _versions(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_OLD_DJANGO: Final = _versions("1.4 1.5 1.6")
_DJANGO_2: Final = _versions("1.7 1.8 1.9 1.10 1.11 2.0 2.1 2.2")
_DJANGO_3: Final = _versions("3.0 3.1 3.2")

PROJECTS: Final[Mapping[str, Project]] = {
    "astropy/astropy": Project(
        install="python -m pip install -e .[test] --verbose",
        tests=dict.fromkeys(
            _versions("0.1 0.2 0.3 0.4 1.1 1.2 1.3"), "pytest -rA -vv -o console_output_style=classic --tb=no"
        ),
    ),
    "django/django": Project(
        test=_DJANGO,
        tests={"1.9": "./tests/runtests.py --verbosity 2"},
        installs=dict.fromkeys(_OLD_DJANGO + _DJANGO_2, _SETUP),
        befores=dict.fromkeys(_DJANGO_2, (*_EXPORTS, "export PYTHONIOENCODING=utf8", "export LANGUAGE=en_US:en"))
        | dict.fromkeys(
            _DJANGO_3,
            (
                "sed -i '/en_US.UTF-8/s/^# //g' /etc/locale.gen && locale-gen",
                _EXPORTS[0],
                "export LANGUAGE=en_US:en",
                _EXPORTS[1],
            ),
        ),
    ),
    "matplotlib/matplotlib": Project(
        installs=dict.fromkeys(("3.8", "3.9"), 'python -m pip install --no-build-isolation -e ".[dev]"')
        | dict.fromkeys(
            _versions("2.0 2.1 2.2 1.0 1.1 1.2 1.3 1.4 1.5"), "python setup.py build; python setup.py install"
        ),
    ),
    "mwaskom/seaborn": Project(
        test="pytest --no-header -rA", install=f"{_EDITABLE}[dev]", installs={"0.11": _EDITABLE}
    ),
    "pallets/flask": Project(),
    "psf/requests": Project(install="python -m pip install ."),
    "pydata/xarray": Project(),
    "pylint-dev/pylint": Project(),
    "pytest-dev/pytest": Project(),
    "scikit-learn/scikit-learn": Project(install="python -m pip install -v --no-use-pep517 --no-build-isolation -e ."),
    "sphinx-doc/sphinx": Project(test="tox --current-env -epy39 -v --", install=f"{_EDITABLE}[test]"),
    "sympy/sympy": Project(test="PYTHONWARNINGS='ignore::UserWarning,ignore::SyntaxWarning' bin/test -C --verbose"),
}
