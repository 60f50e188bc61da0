"""What a Python repository says about itself: its metadata, its dependencies for tests, its lock file.

Reads pyproject.toml, setup.cfg, tox.ini, requirement files and locks as data, and setup.py as text: nothing is run.
Left out: what is done with it (`python`).
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sandbox.images.detect.tree import Tree, strings, table

TEST_NAMES = ("test", "tests", "testing", "unittest", "unit-test", "pytest")
DEVELOPMENT_NAMES = ("dev", "develop", "development")  # where there is nothing of the first kind
REQUIREMENT_FILES = ("*requirements*.txt", "*requirements*.in", "*requirements/*.txt", "*constraints*.txt")
_TEST_REQUIREMENTS = re.compile(
    r"(?:(?:requirements?[-_./])?(?:test|tests|testing|ci)(?:[-_.]?requirements)?|tests?/requirements?(?:/py3)?)\.txt"
)
_DEVELOPMENT_REQUIREMENTS = re.compile(
    r"(?:requirements?[-_./])?(?:dev|develop|development)(?:[-_.]?requirements)?\.txt"
)
_LEGACY_LIST = r"{name}\s*=\s*\[([^\]]*)\]"
_STRING = re.compile(r"""["']([^"']+)["']""")


@dataclass(frozen=True, slots=True)
class Lock:
    """Exact versions from a lock file; a name that is locked to several versions is left out."""

    file: str
    versions: tuple[tuple[str, str], ...]

    def constraints(self) -> str:
        return "".join(f"{name}=={version}\n" for name, version in self.versions)


class PythonProject:
    """The texts of one repository, read when they are asked for."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.pyproject = tree.toml("pyproject.toml")
        self.setup_py = tree.text("setup.py")
        self.setup_cfg = _ini(tree.text("setup.cfg"))
        self.tox = _ini(tree.text("tox.ini") or str(self._tool("tox").get("legacy_tox_ini", "")))

    def _tool(self, name: str) -> Mapping[str, Any]:
        return table(self.pyproject, "tool", name)

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        return table(self.pyproject, "project")

    @property
    def poetry(self) -> Mapping[str, Any]:
        return self._tool("poetry")

    @cached_property
    def backend(self) -> str:
        """The build backend; `setuptools` for old projects, empty where nothing can be installed."""
        said = table(self.pyproject, "build-system").get("build-backend")
        if said:
            return str(said)
        old = "build-system" in self.pyproject or self.setup_py or self.setup_cfg.has_section("metadata")
        return "setuptools" if old or "name" in self.metadata else ""

    @property
    def installable(self) -> bool:
        known = self.setup_py or "name" in self.metadata or self.poetry.get("name")
        return bool(known or self.setup_cfg.has_section("metadata") or self._tool("flit").get("metadata"))

    @property
    def build_requires(self) -> list[str]:
        return strings(table(self.pyproject, "build-system").get("requires"))

    @property
    def requires_python(self) -> str:
        poetry = table(self.poetry, "dependencies").get("python", "")
        said = self.metadata.get("requires-python") or self._option("options", "python_requires") or poetry
        if not said and (found := re.search(r"python_requires\s*=\s*[\"']([^\"']+)", self.setup_py)):
            said = found[1]
        return str(said)

    @property
    def has_scripts(self) -> bool:
        """Whether commands or plug-ins exist only after an installation."""
        keys = ("scripts", "gui-scripts", "entry-points")
        in_toml = (
            any(self.metadata.get(key) for key in keys) or self.poetry.get("scripts") or self.poetry.get("plugins")
        )
        return bool(in_toml or self.setup_cfg.has_section("options.entry_points") or "entry_points" in self.setup_py)

    @cached_property
    def dependencies(self) -> list[str]:
        """What it needs to run, as far as it can be read without running anything."""
        listed = strings(self.metadata.get("dependencies"))
        listed += _lines(self._option("options", "install_requires"))
        listed += poetry_requirements(table(self.poetry, "dependencies"))
        return listed + self._in_setup_py("install_requires")

    @property
    def dynamic(self) -> bool:
        """Whether it needs something that can't be read here."""
        said = "dependencies" in strings(self.metadata.get("dynamic"))
        return said or ("install_requires" in self.setup_py and not self._in_setup_py("install_requires"))

    @cached_property
    def extras(self) -> list[str]:
        """Its extras with names that tests' dependencies go by."""
        names = [*table(self.metadata, "optional-dependencies"), *table(self.poetry, "extras")]
        if self.setup_cfg.has_section("options.extras_require"):
            names += self.setup_cfg.options("options.extras_require")
        if "extras_require" in self.setup_py:
            names += re.findall(r"[\"']([\w-]+)[\"']\s*:", self.setup_py.partition("extras_require")[2])
        return preferred(dict.fromkeys(map(str, names)))

    @cached_property
    def group_requirements(self) -> tuple[str, list[str]]:
        """(the groups with the tests' dependencies, what they hold): PEP 735 and Poetry's."""
        groups = table(self.pyproject, "dependency-groups")
        names = preferred(groups)
        found = [item for name in names for item in _group(groups, name, frozenset())]
        old = {"dev": {"dependencies": self.poetry["dev-dependencies"]}} if "dev-dependencies" in self.poetry else {}
        poetry = {**old, **table(self.poetry, "group")}
        for name in preferred(poetry):
            items = poetry_requirements(table(poetry, name, "dependencies"))
            names += [name] if items else []
            found += items
        return ", ".join(dict.fromkeys(names)), list(dict.fromkeys(found))

    @cached_property
    def legacy_test_requirements(self) -> list[str]:
        """`tests_require` of setup.cfg and setup.py."""
        return _lines(self._option("options", "tests_require")) + self._in_setup_py("tests_require")

    def requirement_files(self) -> list[str]:
        """Requirement files for tests; the plain one too where nothing else says what is needed."""
        names = self.tree.match(*REQUIREMENT_FILES, "*test*.txt", "*dev*.txt")
        found = [name for name in names if _TEST_REQUIREMENTS.fullmatch(name)]
        found = found or [name for name in names if _DEVELOPMENT_REQUIREMENTS.fullmatch(name)]
        if not self.installable and self.tree.has("requirements.txt"):
            found.insert(0, "requirements.txt")
        return found

    @cached_property
    def tox_requirements(self) -> list[str]:
        """What `[testenv]` installs: requirement lines without factors and substitutions; `-r FILE` lines too."""
        lines = _lines(self._tox("deps"))
        plain = [re.sub(r"^[\w{},!-]+\s*:\s*(?=[A-Za-z-])", "", line) for line in lines if not _has_factor(line)]
        return [line.replace("{toxinidir}/", "") for line in plain if "{" not in line.replace("{toxinidir}/", "")]

    @property
    def tox_commands(self) -> str:
        return self._tox("commands")

    @cached_property
    def lock(self) -> Lock | None:
        for name in ("uv.lock", "poetry.lock", "pdm.lock"):
            if self.tree.has(name):
                versions: dict[str, set[str]] = {}
                packages = self.tree.toml(name).get("package")
                for package in packages if isinstance(packages, list) else ():
                    if isinstance(package, dict) and "version" in package and not _is_local(package):
                        versions.setdefault(str(package.get("name")), set()).add(str(package["version"]))
                fixed = sorted((key, *found) for key, found in versions.items() if len(found) == 1)
                return Lock(name, tuple((key, version) for key, version in fixed))
        return None

    def _tox(self, option: str) -> str:
        found = self._raw(self.tox, "testenv", option)
        return found or self._raw(self.setup_cfg, "tox:testenv", option)

    def _option(self, section: str, option: str) -> str:
        return self._raw(self.setup_cfg, section, option)

    @staticmethod
    def _raw(ini: configparser.RawConfigParser, section: str, option: str) -> str:
        return ini.get(section, option, fallback="") or ""

    def _in_setup_py(self, name: str) -> list[str]:
        found = re.search(_LEGACY_LIST.format(name=name), self.setup_py)
        return _STRING.findall(re.sub(r"#.*", "", found[1])) if found else []


def preferred(names: Iterable[str]) -> list[str]:
    """The names that tests' dependencies go by; where there is none, those for development."""
    listed = list(names)
    found = [name for name in listed if name.lower() in TEST_NAMES]
    return found or [name for name in listed if name.lower() in DEVELOPMENT_NAMES]


def poetry_requirements(table: Mapping[str, Any]) -> list[str]:
    """Poetry's dependency table as requirement lines. Sources other than an index, and optional ones, are left out."""
    found = []
    for name, value in table.items():
        said = value[0] if isinstance(value, list) and value else value
        fields = said if isinstance(said, dict) else {"version": said}
        if name.lower() == "python" or fields.get("optional") or "version" not in fields:
            continue
        wanted = strings(fields.get("extras"))
        extras = f"[{','.join(wanted)}]" if wanted else ""
        marker = f"; {fields['markers']}" if fields.get("markers") else ""
        found.append(f"{name}{extras}{_poetry_version(str(fields['version']))}{marker}")
    return found


def _poetry_version(said: str) -> str:
    return ",".join(filter(None, (_poetry_part(part.strip()) for part in said.split(",")))) if "||" not in said else ""


def _poetry_part(said: str) -> str:
    if said in ("", "*"):
        return ""
    numbers = [int(number) for number in re.findall(r"\d+", said.lstrip("^~").partition("-")[0])[:3]]
    if said.startswith("^") and numbers:
        fixed = next((place for place, number in enumerate(numbers) if number), len(numbers) - 1)
        upper = [*numbers[:fixed], numbers[fixed] + 1]
    elif said.startswith("~") and not said.startswith("~=") and numbers:
        upper = [numbers[0], numbers[1] + 1] if len(numbers) > 1 else [numbers[0] + 1]
    elif said[0].isdigit():
        return f"=={said}"
    else:
        return said
    return f">={said.lstrip('^~')},<{'.'.join(map(str, upper))}"


def _ini(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error:
        return configparser.RawConfigParser()
    return parser


def _lines(text: str) -> list[str]:
    stripped = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in stripped if line]


def _has_factor(line: str) -> bool:
    """`py37: pytest<8` is only for one of several environments; `name:` without a blank is no factor of tox."""
    head, colon, _ = line.partition(":")
    return bool(colon) and re.fullmatch(r"[\w{},!.-]+", head.strip()) is not None and "//" not in line


def _group(groups: Mapping[str, Any], name: str, seen: frozenset[str]) -> Iterable[str]:
    items = groups.get(name)
    for item in items if isinstance(items, list) else ():
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict) and (other := item.get("include-group")) and other not in seen:
            yield from _group(groups, str(other), seen | {name})


def _is_local(package: Mapping[str, Any]) -> bool:
    source = package.get("source", {})
    return isinstance(source, dict) and bool({"editable", "virtual", "directory", "git", "path", "url"} & set(source))
