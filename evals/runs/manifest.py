"""The manifest of an evaluation run: everything that changes a score, so that the run can be repeated and compared.

`settings` is what was asked for; a repeated run takes it over. `found` is what the model's host, this program and the
machine said of themselves; a repeated run tells what differs there. Left out: what single attempts came to (`record`),
and anything secret: a model's address with a login in it is refused before it gets here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from agent.limits import Limits
from agent.request import Generation, Patience

FORMAT: Final = 1
_NOT_SCORES: Final = ("run", "created", "machine", "environments")
SEED_RULE: Final = "first 4 bytes of sha256('<seed>/<instance>/<attempt>'), big-endian, without the highest bit"


class ManifestBroken(ValueError):
    """A manifest that can't be read, or not by this release."""


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Which rows: the set's name, the hash of the chosen rows, their ids, and those that can't be used."""

    name: str
    split: str = ""
    sha256: str = ""
    instances: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What changes a score and is chosen by the user. Times in seconds."""

    kind: str = "run"  # or "grade", where `model` is empty and `predictions` says whose they are
    model: str = ""  # a target as `agent fix --model` takes it
    attempts: int = 1
    seed: int = 0
    sandbox: str = "auto"
    semantics: str = "auto"
    judge_seconds: float = 1800.0
    tries: int = 3  # of each step, before a failure of the infrastructure is final
    limits: Limits = field(default_factory=Limits)
    generation: Generation = field(default_factory=Generation)
    patience: Patience = field(default_factory=Patience)
    recipes: Mapping[str, str] = field(default_factory=dict)  # file's name -> sha256
    predictions: Mapping[str, str] = field(default_factory=dict)  # file's name -> sha256
    known: Mapping[str, str] = field(default_factory=dict)  # file's name -> sha256

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        parts = {"limits": Limits, "generation": Generation, "patience": Patience}
        return cls(**{**data, **{name: made(**data[name]) for name, made in parts.items()}})


@dataclass(frozen=True, slots=True)
class Manifest:
    """See the module. `environments`: facts by instance, filled in as they are known."""

    run: str
    created: float
    dataset: DatasetFacts
    settings: Settings
    model: Mapping[str, Any] = field(default_factory=dict)  # name, engine, version, context, tokenizer, features
    sampling: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, Any] = field(default_factory=dict)  # hashes of prompts, template, tools
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    environments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        """The name that predictions and folders carry."""
        return str(self.model.get("name") or "none")

    def seeds(self) -> dict[str, list[int]]:
        attempts = range(1, self.settings.attempts + 1)
        return {one: [seed_of(self.settings.seed, one, k) for k in attempts] for one in self.dataset.instances}

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "seeds": {"rule": SEED_RULE, "by_instance": self.seeds()}}

    def text(self) -> str:
        return json.dumps(self.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """ManifestBroken for what `to_json` didn't make."""
        try:
            if data["format"] != FORMAT:
                raise ManifestBroken(f"a manifest of format {data['format']!r}; this release reads {FORMAT}")
            known = {one.name: data[one.name] for one in fields(cls)}
            known["settings"] = Settings.from_json(known["settings"])
            said = known["dataset"]
            lists = {name: tuple(said[name]) for name in ("instances", "broken")}
            known["dataset"] = DatasetFacts(**{**said, **lists})
            return cls(**known)
        except (KeyError, TypeError, AttributeError) as error:
            raise ManifestBroken(f"no manifest of an evaluation run: {error!r}") from error


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file, or in a run's folder. ManifestBroken with what to do."""
    path = path / "manifest.json" if path.is_dir() else path
    try:
        return Manifest.from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise ManifestBroken(f"{path} can't be read ({error.strerror}): give a run's folder or its manifest") from error
    except ManifestBroken as error:
        raise ManifestBroken(f"{path}: {error}") from error
    except ValueError as error:
        raise ManifestBroken(f"{path} is no JSON: {error}") from error


def seed_of(seed: int, instance_id: str, attempt: int) -> int:
    """The sampler's seed of one attempt: another one for each, the same whenever the run is repeated."""
    digest = sha256(f"{seed}/{instance_id}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def generation_of(settings: Settings, instance_id: str, attempt: int) -> Generation:
    return replace(settings.generation, seed=seed_of(settings.seed, instance_id, attempt))


def same_task(one: Manifest, other: Manifest) -> bool:
    """Whether a run that was begun with one may go on with the other: the same rows and the same settings."""
    return (one.settings, one.dataset.sha256, sorted(one.dataset.instances)) == (
        other.settings,
        other.dataset.sha256,
        sorted(other.dataset.instances),
    )


def differences(before: Manifest, now: Manifest) -> list[str]:
    """What may explain another score, a line each: `settings.model: 'a' -> 'b'`. Times and machines don't count."""
    one, two = (dict(_leaves(_scoring(manifest))) for manifest in (before, now))
    names = sorted({*one, *two})
    return [f"{name}: {_shown(one, name)} -> {_shown(two, name)}" for name in names if one.get(name) != two.get(name)]


def _scoring(manifest: Manifest) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(manifest.to_json()))
    del data["seeds"]
    return {name: value for name, value in data.items() if name not in _NOT_SCORES}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key in value:
            yield from _leaves(value[key], f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _shown(leaves: Mapping[str, Any], name: str) -> str:
    if name not in leaves:
        return "nothing"
    text = json.dumps(leaves[name], ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
