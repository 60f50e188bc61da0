"""Python: an environment of its own in the image, with what the tests need and the project as an editable install.

The install reads only the manifests, the packages' `__init__` files and, where there are extension modules, the
native sources, so commits that change nothing but Python code share an image. Left out: other versions of Python
than the base image has.
"""

from __future__ import annotations

import re
import shlex

from sandbox.images.detect.base import PREFIX, SYSTEM_PATH, Ecosystem, Evidence, Finding, Setup, Step
from sandbox.images.detect.native import COMPILER, header_packages, library_packages, packages_in
from sandbox.images.detect.python_project import REQUIREMENT_FILES, PythonProject
from sandbox.images.detect.tree import Tree

VENV = f"{PREFIX}/venv"
NATIVE_BUILD = "/tmp/patchwright-build"  # noqa: S108  (in the sandbox)
_MANIFESTS = (
    "pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "MANIFEST.in", "PKG-INFO", "versioneer.py", "VERSION*",
    "version*", "README*", "LICENSE*", "COPYING*", "CHANGES*", "CHANGELOG*", "HISTORY*", "NEWS*", "AUTHORS*",
    "uv.lock", "poetry.lock", "pdm.lock", ".gitignore", "py.typed", "meson.build", "meson.options",
    "meson_options.txt", "CMakeLists.txt", "Cargo.toml", "Cargo.lock", "build.py", "hatch_build.py",
)  # fmt: skip
_PACKAGE_FILES = ("*__init__.py", "*version*.py", "*__about__.py", "*__version__*", "*VERSION", "*meta.py")
_NATIVE_FILES = (
    "*.c", "*.h", "*.cc", "*.cpp", "*.cxx", "*.hpp", "*.hh", "*.inc", "*.pyx", "*.pxd", "*.pxi", "*.rs", "*.toml",
    "*meson.build", "*meson.options", "*.cmake", "*CMakeLists.txt", "*.in", "*.asm", "*.S", "*.f", "*.f90",
)  # fmt: skip
_EXTENSION = re.compile(r"\bExtension\s*\(|ext_modules|cythonize|cffi_modules|pybind11|CMakeExtension|RustExtension")
_NATIVE_BACKENDS = {"mesonpy": ("ninja-build",), "scikit_build_core": ("cmake", "ninja-build"),
                    "skbuild": ("cmake", "ninja-build"), "maturin": ("cargo", "rustc"),
                    "setuptools_rust": ("cargo", "rustc"), "py_build_cmake": ("cmake", "ninja-build")}  # fmt: skip
# Distributions that are compiled on installation because no wheels are published -> packages
_FROM_SOURCE = {"psycopg2": "libpq-dev", "mysqlclient": "default-libmysqlclient-dev", "python-ldap": "libldap-dev",
                "pycurl": "libcurl4-openssl-dev", "pyodbc": "unixodbc-dev", "pygraphviz": "libgraphviz-dev",
                "dbus-python": "libdbus-1-dev", "pycairo": "libcairo2-dev", "uwsgi": "libpcre2-dev",
                "pysqlite3": "libsqlite3-dev", "xmlsec": "libxmlsec1-dev", "gmpy2": "libgmp-dev"}  # fmt: skip
_METADATA = re.compile(r"importlib[._]metadata|pkg_resources")
# The base image's pip for the environment's Python: an environment without its own is made in no time.
_PIP = f"/usr/bin/python3 -m pip --python {VENV}/bin/python --no-cache-dir -q"
_MORE_TOOLS = {"hatchling.build": ("editables",)}  # what a backend wants only for editable installs
_UNKNOWN_VERSION = "999.0"  # newer than anything that asks for a minimum


def detect(tree: Tree) -> Finding | None:
    project = PythonProject(tree)
    weight = tree.count(".py", ".pyx")
    requirements = project.requirement_files()
    if not weight or not (project.installable or requirements or tree.has("tox.ini") or tree.has("pyproject.toml")):
        return _bare(tree, weight)
    native = _native(tree, project)
    if native:
        weight += tree.count(*(pattern.lstrip("*") for pattern in _NATIVE_FILES[:7]))
    setup, evidence = _setup(tree, project, requirements, native)
    build, test = _commands(tree, project, native)
    return Finding(
        Ecosystem.PYTHON, weight, project.installable, (*evidence, *native), setup, build, test, _notes(project)
    )


def _bare(tree: Tree, weight: int) -> Finding | None:
    """Scripts with tests and no manifest at all."""
    tests = tree.match("test_*.py", "*/test_*.py", "*_test.py")
    if not tests:
        return None
    seen = Evidence(tests[0], "a test without a manifest", "the base image's Python and pytest")
    return Finding(Ecosystem.PYTHON, weight, False, (seen,), test="python -m pytest -q")


def _native(tree: Tree, project: PythonProject) -> tuple[Evidence, ...]:
    """What says that something has to be compiled; a line for each package."""
    backend = project.backend.partition(".")[0]
    seen: list[Evidence] = []
    if backend in _NATIVE_BACKENDS or "rust" in str(project.build_requires):
        tools = _NATIVE_BACKENDS.get(backend, ("cargo", "rustc"))
        seen += [Evidence("pyproject.toml", f"build backend {backend}", f"package {tool}") for tool in tools]
    if _EXTENSION.search(project.setup_py) or "ext-modules" in str(project.pyproject.get("tool", {})):
        file = "setup.py" if _EXTENSION.search(project.setup_py) else "pyproject.toml"
        seen += [Evidence(file, "extension modules", f"package {name}") for name in ("gcc", "python3-dev")]
    if not seen:
        return ()
    seen += [Evidence(seen[0].file, "native code", f"package {name}") for name in (*COMPILER, "python3-dev")]
    if any(name.endswith((".f", ".f90")) for name in tree.names):
        seen.append(Evidence(tree.match("*.f", "*.f90")[0], "Fortran", "package gfortran"))
    seen += header_packages(tree, tree.match("*.c", "*.cc", "*.cpp", "*.cxx", "*.h", "*.pyx"))
    seen += library_packages(tree, tree.existing(("setup.py", "meson.build", "CMakeLists.txt")))
    return tuple({line.chosen: line for line in reversed(seen)}.values())[::-1]


def _setup(
    tree: Tree, project: PythonProject, requirements: list[str], native: tuple[Evidence, ...]
) -> tuple[Setup, list[Evidence]]:
    evidence = _first_evidence(tree, project)
    needs, wanted = _needs(tree, project, requirements, evidence)
    compiled = {_name(line): package for line in [*wanted, *project.dependencies]
                for package in (_FROM_SOURCE.get(_name(line)),) if package}  # fmt: skip
    for name, package in compiled.items():
        evidence.append(Evidence("", f"{name} is compiled on installation", f"package {package}"))
    if not (needs or native or project.dependencies or project.dynamic or _needs_metadata(tree, project)):
        return _without_install(tree, evidence), evidence
    tools = (*COMPILER, "python3-dev") if compiled else ()
    packages = tuple(sorted({*packages_in(native), *compiled.values(), *tools}))
    made = [("constraints.txt", project.lock.constraints())] if project.lock else []
    if project.lock:
        evidence.append(Evidence(project.lock.file, f"{len(project.lock.versions)} versions", "those versions"))
    return (
        Setup(
            packages=packages,
            steps=tuple(_steps(tree, project, needs)),
            env=(("PATH", f"{VENV}/bin:{SYSTEM_PATH}"), ("VIRTUAL_ENV", VENV)),
            inputs=_inputs(tree, project, bool(native)),
            made=tuple((f".patchwright-build/{name}", text) for name, text in made),
            seed=bool(native),
            narrow=True,
        ),
        evidence,
    )


def _first_evidence(tree: Tree, project: PythonProject) -> list[Evidence]:
    file = tree.first("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "tox.ini") or "requirements"
    if project.installable:
        return [Evidence(file, f"a project built by {project.backend or 'setuptools'}", "an editable install")]
    return [Evidence(file, "Python without a package to install", "its dependencies only")]


def _needs(
    tree: Tree, project: PythonProject, requirements: list[str], evidence: list[Evidence]
) -> tuple[list[str], list[str]]:
    """(pip's arguments besides the project, the requirement lines among them)."""
    names, group = project.group_requirements
    arguments: list[str] = []
    lines: list[str] = list(group)
    if group:
        evidence.append(Evidence("pyproject.toml", f"dependency groups {names}", ", ".join(group)[:200]))
    for file in requirements:
        evidence.append(Evidence(file, "requirements", "installed"))
        arguments += ["-r", file]
        lines += tree.text(file).splitlines()
    if legacy := project.legacy_test_requirements:
        evidence.append(Evidence("setup.py", "tests_require", ", ".join(legacy)[:200]))
        lines += legacy
        group = [*group, *legacy]
    if not (group or requirements or project.extras) and (tox := project.tox_requirements):
        evidence.append(Evidence("tox.ini", "deps of [testenv]", ", ".join(tox)[:200]))
        for line in tox:
            file = line.removeprefix("-r").strip() if line.startswith("-r") else ""
            arguments += ["-r", file] if tree.has(file) else []
            group = group if line.startswith("-") else [*group, line]
    # a runner that the base has, at whatever version, is no dependency worth an environment of its own
    alone = [line for line in group if _name(line) != "pytest" or re.search(r"[<>=~]", line)]
    return ([*arguments, *dict.fromkeys(group)] if arguments or alone else []), lines


def _steps(tree: Tree, project: PythonProject, needs: list[str]) -> list[Step]:
    steps = [Step("making an environment", f"/usr/bin/python3 -m venv --without-pip {VENV}")]
    for file in [name for name in needs if "--hash=" in tree.text(name)]:
        # pip wants a hash for everything in such a call, so it can't be part of another
        steps.append(Step(f"installing {file}", f"{_PIP} install -r {shlex.quote(file)}"))
        needs = [word for place, word in enumerate(needs) if file not in (word, *needs[place + 1 : place + 2])]
    tests = shlex.join([*needs, *([] if _mentions_pytest(needs) else ["pytest"])])
    steps.append(Step("installing what the tests need", _locked(project, f"install {tests}")))
    if project.installable:
        tools = [*(project.build_requires or ["setuptools<81"]), *_MORE_TOOLS.get(project.backend, ()), "wheel", "pip"]
        steps.append(Step("installing the build tools", f"{_PIP} install {shlex.join(dict.fromkeys(tools))}"))
        steps.append(Step("installing the project", _install_project(tree, project)))
    return steps


def _install_project(tree: Tree, project: PythonProject) -> str:
    """After the rest, so that the project's own needs have the last word. Without tags there is no version to read."""
    extras = f"[{','.join(project.extras)}]" if project.extras else ""
    compat = "--config-settings editable_mode=compat " if project.backend.startswith("setuptools") else ""
    target = shlex.quote(f".{extras}")
    version = f"export SETUPTOOLS_SCM_PRETEND_VERSION={_version(tree)} PDM_BUILD_SCM_VERSION={_version(tree)}"
    here = _locked(project, f"install --no-build-isolation --use-pep517 {compat}-e {target}")
    return (
        f"{version}\n{{ {here}; }} || {{ echo 'again, with an isolated build'; {_PIP} install {compat}-e {target}; }}"
    )


def _locked(project: PythonProject, command: str) -> str:
    """With the lock's versions; those may not exist for this machine's Python."""
    if project.lock is None:
        return f"{_PIP} {command}"
    constrained = f"{_PIP} {command} -c .patchwright-build/constraints.txt"
    return f"{constrained} || {{ echo 'the versions of the lock do not fit here: without them'; {_PIP} {command}; }}"


def _mentions_pytest(needs: list[str]) -> bool:
    return any(_name(line) == "pytest" for line in needs)


def _version(tree: Tree) -> str:
    found = re.search(r"^Version: ([\w.!+]+)$", tree.text("PKG-INFO"), re.MULTILINE)
    return found[1] if found else _UNKNOWN_VERSION


def _inputs(tree: Tree, project: PythonProject, native: bool) -> tuple[str, ...]:
    files = {*tree.root_match(*_MANIFESTS), *tree.match(*REQUIREMENT_FILES, "*requirements/*.in")}
    if project.installable:
        packaged = [name for name in tree.match(*_PACKAGE_FILES) if not name.startswith(("test", "doc", "example"))]
        files |= {*packaged, *tree.root_match("*.py")}
    if native:
        files |= set(tree.match(*_NATIVE_FILES))
    return tuple(sorted(files))


def _without_install(tree: Tree, evidence: list[Evidence]) -> Setup:
    """Pure Python that needs nothing: it is enough to find it."""
    if tree.match("src/*.py"):
        evidence.append(Evidence("src", "no dependencies, sources below src", "found by PYTHONPATH, nothing installed"))
        return Setup(env=(("PYTHONPATH", "{workdir}/src"),))
    evidence.append(Evidence("", "no dependencies", "the base image's Python and pytest"))
    return Setup()


def _needs_metadata(tree: Tree, project: PythonProject) -> bool:
    sources = [name for name in tree.match("*.py") if not name.startswith(("test", "doc"))][:2000]
    return project.installable and (project.has_scripts or any(_METADATA.search(tree.text(name)) for name in sources))


def _commands(tree: Tree, project: PythonProject, native: tuple[Evidence, ...]) -> tuple[str, str]:
    """(what compiles after a change, the test command)."""
    test = "python -m pytest -q"
    if tree.has("tests/runtests.py"):
        test = "python tests/runtests.py"
    elif "unittest" in project.tox_commands and "pytest" not in project.tox_commands:
        test = "python -m unittest"
    if not native:
        return "", test
    if project.backend.startswith("setuptools") and tree.has("setup.py"):
        return "python setup.py -q build_ext --inplace", test
    build = f"python -m pip install -q --no-index --no-deps --no-build-isolation --upgrade --target {NATIVE_BUILD} ."
    return build, f"PYTHONPATH={NATIVE_BUILD} {test.replace('python -m pytest', 'pytest')}"


def _notes(project: PythonProject) -> tuple[str, ...]:
    said = project.requires_python
    return (f"it asks for Python {said}; the base image has its distribution's own version",) if said else ()


def _name(line: str) -> str:
    found = re.match(r"\s*([\w.-]+)", line)
    return found[1].lower().replace("_", "-") if found and not line.startswith("-") else ""
