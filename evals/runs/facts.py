"""What a manifest finds out: the model's host as it describes itself, hashes of all texts, versions, the machine.

Left out: environments, whose facts come with each attempt (`evals.environments`).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from agent import prompts
from agent.ends import Outcome, RunProblem
from agent.hosts import refuse_secrets, sampling_for
from evals.grading.semantics import Semantics
from evals.runs.manifest import Settings

_PATIENCE: Final = 30.0  # seconds that the start waits for a model server
_PACKAGES: Final = ("patchwright", "dbos", "docker", "swebench")
_SAMPLE_CALL: Final = {"function": {"name": "bash", "arguments": {"command": "ls", "count": 2, "deep": {"a": [1]}}}}
_SAMPLE: Final = (
    {"role": "system", "content": "A system prompt."},
    {"role": "user", "content": "A task.\n"},
    {"role": "assistant", "reasoning_content": "Thinking.\n", "content": "Text.", "tool_calls": [_SAMPLE_CALL]},
    {"role": "tool", "content": "An answer.\n"},
    {"role": "tool", "content": ""},
    {"role": "assistant", "reasoning_content": "", "content": "The end."},
)


async def model_facts(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what the host says of itself, the sampling of its preset). Raises RunProblem when it can't be reached."""
    from runtime.models.base import ModelError
    from runtime.models.stack import StackSettings, open_model

    refuse_secrets(settings.model)
    wait = min(_PATIENCE, settings.patience.absence)
    try:
        model = await open_model(settings.model, StackSettings(settings.patience.silence, wait))
    except ModelError as error:
        raise RunProblem(Outcome.MODEL, str(error)) from None
    try:
        facts = model.facts
        known = {
            "name": model.name,
            "engine": facts.engine,
            "version": facts.version,
            "context": model.context_length,
            "tokenizer": model.tokenizer.name,
            "features": sorted(facts.features),
        }
        sampling = asdict(sampling_for(settings.generation, model.name))
        return known, {name: value for name, value in sampling.items() if name != "seed"}
    finally:
        await model.close()


def text_facts() -> dict[str, Any]:
    """Hashes of all that the model reads before a run's own words: prompts, the chat template's text, tool specs."""
    from runtime.chat import render
    from tools import standard_tools
    from tools.base import tool_name

    tools = standard_tools()
    sample = render(list(_SAMPLE), [tool.spec for tool in tools])
    return {
        "prompts": prompts.prompt_fingerprint(),
        "template": sha256(sample.encode()).hexdigest()[:16],
        "tools": {tool_name(tool): _hash(tool.spec) for tool in tools},
    }


def version_facts(semantics: str) -> dict[str, str]:
    rules = Semantics.named(semantics)
    said = {name: found for name in _PACKAGES if (found := _version(name))}
    return {
        **said,
        "python": platform.python_version(),
        "git": _git(),
        "rules": f"swebench {rules.release}" if rules else "swebench, those that each row was written for",
    }


def machine_facts() -> dict[str, Any]:
    return {"system": platform.platform(), "architecture": platform.machine(), "cores": os.cpu_count()}


def files_sha256(paths: tuple[Path, ...]) -> dict[str, str]:
    """By name; the folder isn't told, since it says something of the machine and nothing of the score."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in paths}


def _hash(value: Mapping[str, Any]) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _git() -> str:
    try:
        said = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.removeprefix("git version ").strip()
