"""The files for containers: as generated, readable as YAML, with the program's own commands in them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.runtime.serving.test_recipes import GOLDEN, problems

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs/serving"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serving_docs", ROOT / "scripts/serving_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


serving_docs = load()


def test_the_files_are_up_to_date_and_there_are_no_others() -> None:
    files = serving_docs.files()
    assert {path: path.read_text() for path in DOCS.glob("*.yaml")} == files


def test_the_readme_tells_what_the_plans_say() -> None:
    readme = (DOCS / "README.md").read_text()
    for name, row in {
        "one-24-gb-card": "one 24 GB card",
        "one-80-gb-card": "one 80 GB card",
        "two-16-gb-cards": "two 16 GB cards",
        "no-gpu-32-gb": "no GPU, 32 GB",
    }.items():
        said = (GOLDEN / f"{name}.txt").read_text()
        context = re.search(r"^context +([\d,]+) tokens", said, re.MULTILINE)
        (line,) = [line for line in readme.splitlines() if line.startswith(f"| {row} |")]
        assert context is not None and f"| {context[1]} |" in line


TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT | st.sampled_from(["no", "on", "null", "- a", "a: b", "1e3", "~"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9_.]*\Z"), inner),
    max_leaves=20,
)


@settings(deadline=None, max_examples=40)
@example(value={"a": "-", "b": ["-", "--x", "- y", "x "]})
@example(value={"on": {"no": "yes"}, "null": [[], {}, [[1]], {"y": None}]})
@given(value=st.dictionaries(st.from_regex(r"\A[a-z]+\Z"), PLAIN, min_size=1))
def test_what_is_written_is_what_yaml_reads(value: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML isn't installed")
    assert yaml.safe_load(serving_docs.yaml(value)) == value


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.yaml")), ids=lambda path: path.name)
def test_files_are_yaml(path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML isn't installed")
    documents = list(yaml.safe_load_all(path.read_text()))
    if path.name.startswith("compose"):
        (document,) = documents
        assert all({"image", "command", "restart"} <= set(service) for service in document["services"].values())
        published = [port for service in document["services"].values() for port in service.get("ports", [])]
        assert published == ["127.0.0.1:30000:30000"]
    else:
        assert all({"apiVersion", "kind", "metadata", "spec"} <= set(document) for document in documents)
        names = {(document["kind"], document["metadata"]["name"]) for document in documents}
        assert ("Service", "model") in names and len(names) == len(documents)


def test_commands_in_the_files_hold_known_options() -> None:
    from runtime.serving.recipes import Address, Command

    for hardware in serving_docs.COMPOSE.values():
        services = serving_docs.compose(hardware)["services"]
        for name, service in services.items():
            if name == "router":
                (shell,) = service["command"][2:]
                argv = shell.partition("exec ")[2].split()
                assert all(f"http://{worker}:30000" in argv for worker in services if worker != "router")
            else:
                argv = [Path(service["entrypoint"][0]).name, *service["command"]]
            assert problems(Command(name, tuple(argv), Address())) == []


def test_replicas_have_a_card_each() -> None:
    services = serving_docs.compose("8x80")["services"]
    cards = [
        service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for name, service in services.items()
        if name != "router"
    ]
    assert cards == [[str(number)] for number in range(8)]
    assert json.dumps(serving_docs.kubernetes("8x80")).count('"replicas": 8') == 1


def test_the_check_of_the_docs_covers_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/docs.py"), "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert "serving" not in done.stdout
    path = DOCS / "compose.one-80-gb-card.yaml"
    code = f"import runpy, sys; sys.argv = ['docs.py', '--check']; sys.path.insert(0, {str(ROOT / 'scripts')!r}); "
    code += (
        "import serving_docs; real = serving_docs.files; "
        f"serving_docs.files = lambda: {{**real(), serving_docs.Path({str(path)!r}): 'other'}}; "
        f"runpy.run_path({str(ROOT / 'scripts/docs.py')!r}, run_name='__main__')"
    )
    spoiled = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert spoiled.returncode == 1 and "serving/compose.one-80-gb-card.yaml" in spoiled.stdout
