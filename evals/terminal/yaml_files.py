"""YAML files of the older layout, read as data. Left out: what they say (`tasks`, `compose`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from evals.instance import RowBroken

MAX_YAML: Final = 1 << 20


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The file's mapping. RowBroken when it holds something else, or when nothing here can read YAML."""
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise RowBroken(f"{path.name} needs PyYAML: pip install 'patchwright[evals]'") from None
    with path.open("rb") as file:
        data = file.read(MAX_YAML + 1)
    if len(data) > MAX_YAML:
        raise RowBroken(f"{path.name} is longer than {MAX_YAML >> 20} MB")
    if b"&" in data and data.count(b"*") > 200:  # aliases of aliases unfold without bound
        raise RowBroken(f"{path.name} has too many aliases")
    try:
        said = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RowBroken(f"{path.name} is no YAML that can be read: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(said, Mapping):
        raise RowBroken(f"{path.name} holds no mapping")
    return said
