"""What users install: the packages, light dependencies, and a command that starts quickly."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = {"agent", "cli", "evals", "runtime", "sandbox", "service", "tools"}
HEAVY = ("torch", "transformers", "fastapi", "litellm", "sglang", "swebench")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)], check=True)
    (built,) = out.glob("*.whl")
    return built


def test_a_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    source = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == source
    assert {"sandbox/guest.py", "runtime/catalog.toml"} <= set(names)
    assert sum(name.endswith("py.typed") for name in names) == len(PACKAGES)


def test_the_wheel_runs_by_itself(wheel: Path, tmp_path: Path) -> None:
    """Installed without dependencies beside those of the tests, away from the checkout."""
    venv.create(tmp_path / "venv", with_pip=False, system_site_packages=False)
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    site = next(path for path in sys.path if path.endswith("site-packages"))
    code = f"import sys; sys.path[:0] = [{str(target)!r}]; sys.path.append({site!r}); from cli.main import main; main()"
    done = subprocess.run([sys.executable, "-I", "-c", code, "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith("patchwright 0."), done.stderr


def test_core_dependencies_are_light() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [name for name in project["dependencies"] if name.startswith(HEAVY)]
    assert set(project["optional-dependencies"]) == {
        "embedded", "sglang", "evals", "service", "telemetry", "mcp", "dev",
    }  # fmt: skip


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["fix", "--help"], ["runs", "--help"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\nfrom cli.main import cli\n"
        f"try: cli({command!r})\nexcept SystemExit: pass\n"
        "found = {'httpx2', 'docker', 'rich', 'pydantic', 'asyncio', 'torch', 'regex'} & set(sys.modules)\n"
        "print('LOADED', sorted(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert loaded == "LOADED []"
