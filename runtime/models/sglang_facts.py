"""What SGLang's `/model_info` and `/server_info` say about a server, as facts for the client.

Read from the shapes of version 0.5.23; other versions and servers that only imitate it leave fields out, and what
isn't said isn't assumed. Left out: asking (`runtime.models.connect`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runtime.models.base import Feature, HostFacts, Pools
from runtime.prefix import CacheRules, Strategy

SGLANG_FEATURES: Final = frozenset({Feature.EXACT_IDS, Feature.CACHED_TOKENS, Feature.ROUTING})
"""What every SGLang server has."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server says that it serves."""

    model: str
    path: str
    tokenizer: str

    def __str__(self) -> str:
        return f"{self.model} ({self.path}, tokenizer {self.tokenizer})"


def identity_of(info: Mapping[str, Any]) -> Identity:
    """From `/model_info`."""
    path = str(info.get("model_path"))
    return Identity(str(info.get("served_model_name") or path), path, str(info.get("tokenizer_path") or path))


def low_priority_first(server: Mapping[str, Any]) -> bool:
    """From `/server_info`: a lower number goes first, the other way round than `RequestOptions.priority`."""
    return server.get("schedule_low_priority_values_first") is True


def facts_of(info: Mapping[str, Any], server: Mapping[str, Any], *, engine: str = "sglang") -> HostFacts:
    """From `/model_info` and `/server_info`, either empty where the server doesn't have it."""
    version = server.get("version")
    return HostFacts(
        engine,
        version if isinstance(version, str) else None,
        _features(info, server),
        _pools(server),
        _cache_rules(server),
    )


def _features(info: Mapping[str, Any], server: Mapping[str, Any]) -> frozenset[Feature]:
    found = set(SGLANG_FEATURES)
    if info.get("has_image_understanding") is True and not server.get("language_model_only"):
        found.add(Feature.IMAGES)
    if server.get("grammar_backend") in ("xgrammar", "llguidance") and not server.get("skip_tokenizer_init"):
        found.add(Feature.CONSTRAINED)
    if server.get("enable_priority_scheduling") is True:
        found.add(Feature.PRIORITY)
    if server.get("enable_session_radix_cache") is True:
        found.add(Feature.SESSIONS)
    return frozenset(found)


def _pools(server: Mapping[str, Any]) -> Pools:
    return Pools(
        _count(server.get("max_total_num_tokens")),
        _count(server.get("max_mamba_cache_size")),
        _count(server.get("max_running_requests")),
    )


def _cache_rules(server: Mapping[str, Any]) -> CacheRules | None:
    """None where the server doesn't say, or caches no prefixes."""
    named = server.get("mamba_radix_cache_strategy")
    if server.get("disable_radix_cache") is True or not isinstance(named, str):
        return None
    known = {"no_buffer": Strategy.NO_BUFFER, "extra_buffer": Strategy.EXTRA_BUFFER}
    strategy = known.get(named.removesuffix("_lazy"), Strategy.UNKNOWN)
    if server.get("uses_mamba_radix_cache") is False:  # keys and values only; the flag keeps its default
        strategy = Strategy.TOKENS
    page = _count(server.get("page_size")) or 1
    return CacheRules(
        strategy,
        page=page,
        prefill_grid=max(64, page),
        decode_interval=_count(server.get("mamba_track_interval")) or 256,
        prefill_chunk=_count(server.get("chunked_prefill_size")),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
