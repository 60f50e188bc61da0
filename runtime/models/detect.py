"""What kind of model server is at a URL, and what it says of itself: read from it, not assumed.

Each kind is known by what only it has: SGLang (and KTransformers, which is SGLang with experts on the CPU) by
`/model_info`, vLLM and llama.cpp by the owner in `/v1/models`. Everything else that lists models is taken for a host of
chat messages (`detect_chat`); of a router, one of its servers is asked (`detect_router`). vLLM says least of itself, so
it is asked to write one token. Left out: making a `Model` of what was found (`hosts`), and comparing tokenizers and
templates (`compare`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from runtime.models.base import Feature, HostFacts, ModelRefused, ModelUnreachable, Pools
from runtime.models.checked import count, fields, parse_object
from runtime.models.detect_router import behind, is_router, workers_of
from runtime.models.http_wire import TransportError
from runtime.models.refusals import Host, words_of
from runtime.prefix import CacheRules, Strategy

if TYPE_CHECKING:
    from runtime.models.http_client import Transport
    from runtime.models.sglang_facts import Identity

QWEN36_CONTEXT: Final = 262_144  # what the family takes; for servers that don't say
PROBE_IDS: Final = tuple(range(8))  # any ids; vLLM 0.32 dies of a prompt of one token on some CPUs
WORKER_SECONDS: Final = 10.0  # for the servers behind a router
_LONGEST_NAME: Final = 512
_CONSTRAINED_SINCE: Final = (0, 32)  # the first vLLM that was seen to take our structural tag


class Kind(StrEnum):
    SGLANG = "sglang"
    VLLM = "vllm"
    LLAMACPP = "llamacpp"
    CHAT = "chat"


@dataclass(frozen=True, slots=True)
class Found:
    """A server and what it said."""

    kind: Kind
    name: str  # its own name for its model
    context_length: int
    facts: HostFacts
    identity: Identity | None = None
    low_priority_first: bool = False
    worker: str | None = None  # the URL of the server that said it, where the one that was asked is a router


class Server:
    """Questions to one server that cost no generation. Every method raises a `ModelError` when it can't be reached."""

    def __init__(self, transport: Transport, url: str, key: str | None = None) -> None:
        """`key` is what `transport` sends, and never shown."""
        self.transport = transport
        self.url = url
        self.host = Host(url, key)

    def at(self, url: str) -> Server:
        """Another server, asked with the same key. Raises `ModelRefused` for what is no URL."""
        from runtime.models.http_client import open_transport

        try:
            transport = open_transport(url, idle_timeout=WORKER_SECONDS, api_key=self.host.key)
        except ValueError as error:
            raise ModelRefused(f"{url} can't be asked: {error}.") from error
        return Server(transport, url, self.host.key)

    async def get(self, *paths: str) -> dict[str, Any] | None:
        """The JSON object at the first path that the server has. None: it has none of them."""
        for path in paths:
            status, data = await self._ask("GET", path)
            if status in (404, 405):
                continue
            if status != 200:
                raise replace(self.host, url=self.url + path).refused(status, {}, data)
            body = _object(data)
            if body is not None:
                return body
        return None

    async def text(self, path: str) -> str:
        """The text at a path; empty where there is none."""
        status, data = await self._ask("GET", path)
        return data.decode(errors="replace") if status == 200 else ""

    async def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and JSON object; empty for anything else."""
        status, data = await self._ask("POST", path, json.dumps(body).encode())
        return status, _object(data) or {}

    async def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        try:
            response = await self.transport.send(method, path, body)
            try:
                return response.status, await response.read()
            finally:
                await response.close()
        except TransportError as error:
            raise self.host.unreachable(error) from error


async def detect(server: Server, expected: Kind | None = None) -> Found:
    """What is there. `expected` is what the user says that it is; the server then needn't list its models.

    Raises a `ModelError`: `ModelRefused` where there is no model server, or another kind than the expected.
    """
    if expected is not None and expected in _READERS:
        found = await _READERS[expected](server, None)
        if found is not None:
            return found
        raise await _another(server, expected)
    info = await server.get("/model_info", "/get_model_info")
    if info is not None and "model_path" in info:
        return await _sglang(server, info)
    models = await server.get("/v1/models")
    owner = card_of(models).get("owned_by")
    kind = next((kind for kind in _READERS if kind == owner), None)
    found = await _READERS[kind](server, models) if kind is not None else None
    if found is not None:
        return found
    if models is None:
        raise ModelRefused(
            f"{server.url} answers, but neither /model_info nor /v1/models. Give the URL of a model server, such as "
            "http://127.0.0.1:30000; for one that speaks OpenAI's chat API only, write chat:URL#MODEL."
        )
    from runtime.models.detect_chat import chat_found

    return await chat_found(server, models)


async def _another(server: Server, expected: Kind) -> ModelRefused:
    """The error for a server of another kind than the user wrote."""
    models = await server.get("/v1/models")
    owner = card_of(models).get("owned_by")
    info = await server.get("/model_info", "/get_model_info")
    owner = Kind.SGLANG if info is not None and "model_path" in info else owner
    if isinstance(owner, str) and owner in _READERS and owner != expected:
        return ModelRefused(f"At {server.url} is {owner}, not {expected}. Write {owner}:{server.url}, or only the URL.")
    other = f" It lists models; try chat:{server.url}#MODEL." if models else " Check the address and the port."
    return ModelRefused(f"{server.url} doesn't answer as {expected} does.{other}")


async def _read_sglang(server: Server, models: dict[str, Any] | None) -> Found | None:
    info = await server.get("/model_info", "/get_model_info")
    if (info is None or "model_path" not in info) and card_of(models).get("owned_by") != Kind.SGLANG:
        return None
    return await _sglang(server, info or {}, models)


async def _sglang(server: Server, info: Mapping[str, Any], models: dict[str, Any] | None = None) -> Found:
    from runtime.models.sglang_facts import facts_of, identity_of, low_priority_first

    said = await server.get("/server_info", "/get_server_info") or {}
    notes: tuple[str, ...] = ()
    if not said or is_router(said):
        workers = await workers_of(server)
        if workers is not None:
            if (found := await behind(server, workers, info, _sglang)) is not None:
                return found
            notes = (f"It is a router before {workers.count} servers, and none of them can be asked from here.",)
    length = count(said.get("context_length"))
    if not length:
        models = models or await server.get("/v1/models")
        length = count(card_of(models).get("max_model_len"))
    if not length:
        length, notes = QWEN36_CONTEXT, (*notes, _UNSAID.format(length=QWEN36_CONTEXT))
    length = min(length, count(said.get("max_total_num_tokens")) or length)  # it must fit into the cache's memory too
    engine = "ktransformers" if said.get("kt_weight_path") else "sglang"
    facts = facts_of(info, said, engine=engine)
    named = (info.get("served_model_name"), info.get("model_path"), card_of(models).get("id"))
    return Found(
        Kind.SGLANG,
        first_name(*named) or server.url,
        length,
        replace(facts, notes=facts.notes + notes),
        identity_of(info) if info else None,
        low_priority_first(said),
    )


async def _read_vllm(server: Server, models: dict[str, Any] | None) -> Found | None:
    models = models or await server.get("/v1/models")
    card = card_of(models)
    version, name = (await server.get("/version") or {}).get("version"), first_name(card.get("id"))
    if name is None or (card.get("owned_by") != Kind.VLLM and not isinstance(version, str)):
        return None
    features, notes = await _vllm_abilities(server, name, version)
    length = count(card.get("max_model_len"))
    if not length:
        length, notes = QWEN36_CONTEXT, (*notes, _UNSAID.format(length=QWEN36_CONTEXT))
    cache = _vllm_cache(await server.text("/metrics"))
    facts = HostFacts(
        "vllm",
        version if isinstance(version, str) else None,
        features,
        Pools(kv_tokens=_vllm_pool(cache)),
        _vllm_rules(cache),
        notes,
    )
    return Found(Kind.VLLM, name, length, facts)


async def _vllm_abilities(server: Server, name: str, version: Any) -> tuple[frozenset[Feature], tuple[str, ...]]:
    """What shows in one token: whether ids come back, cached tokens are counted, and priorities are taken."""
    asked = {"model": name, "prompt": PROBE_IDS, "max_tokens": 1, "temperature": 0, "return_token_ids": True}
    ours = {Feature.CONSTRAINED} if isinstance(version, str) and _numbers(version) >= _CONSTRAINED_SINCE else set()
    try:
        status, body = await server.post("/v1/completions", {**asked, "priority": 1})
        found = {Feature.PRIORITY}
        if status == 400 and "riority" in words_of(body):
            status, body = await server.post("/v1/completions", asked)
            found = set()
    except ModelUnreachable:  # a busy server may take longer than a question is worth
        found, status, body = set(), 0, {}
    if status != 200:
        why = server.host.shown(words_of(body)) if body else "no answer in time"
        return frozenset({Feature.EXACT_IDS, *ours}), (f"Writing one token to try it failed: {why}.",)
    choices = body.get("choices")
    choice = fields(choices[0] if isinstance(choices, list) and choices else None)
    if not isinstance(choice.get("token_ids"), list):
        return frozenset(), ("It doesn't return token ids; vLLM does from version 0.10.2 on.",)
    found |= {Feature.EXACT_IDS, *ours}
    if fields(body.get("usage")).get("prompt_tokens_details"):
        return frozenset({*found, Feature.CACHED_TOKENS}), ()
    return frozenset(found), ("It doesn't say what it has cached; start it with --enable-prompt-tokens-details.",)


def _vllm_cache(metrics: str) -> Mapping[str, str]:
    """How its cache is set up: the labels of `vllm:cache_config_info`."""
    line = next((line for line in metrics.splitlines() if line.startswith("vllm:cache_config_info{")), "")
    return dict(re.findall(r'(\w+)="([^"]*)"', line))


def _vllm_pool(cache: Mapping[str, str]) -> int | None:
    """Tokens in the key-value pool."""
    tokens = _whole(cache.get("kv_cache_size_tokens"))
    return tokens or _whole(cache.get("num_gpu_blocks")) * _whole(cache.get("block_size")) or None


def _vllm_rules(cache: Mapping[str, str]) -> CacheRules | None:
    """Whole blocks of tokens; where it keeps recurrent states too, they decide, and it doesn't say where they are."""
    page = _whole(cache.get("block_size"))
    if cache.get("enable_prefix_caching") != "True" or not page:
        return None
    plain = cache.get("mamba_cache_mode", "none") == "none"
    return CacheRules(Strategy.TOKENS if plain else Strategy.UNKNOWN, page=page)


async def _read_llamacpp(server: Server, models: dict[str, Any] | None) -> Found | None:
    """Each slot keeps one prefix. Whether the slots share one cache isn't said; they do as we start it, so the cache is
    taken to hold what one slot may have."""
    from runtime.models.llamacpp import LLAMACPP_FEATURES, identity_of

    props = await server.get("/props")
    settings = (props or {}).get("default_generation_settings")
    if props is None or not isinstance(settings, dict):
        return None
    length, slots = count(settings.get("n_ctx")), count(props.get("total_slots"))
    build = props.get("build_info")
    notes = () if length else (_UNSAID.format(length=QWEN36_CONTEXT),)
    facts = HostFacts(
        "llamacpp",
        build if isinstance(build, str) else None,
        LLAMACPP_FEATURES,
        Pools(kv_tokens=length or None, requests=slots or None, slots=slots or None),
        notes=notes,
    )
    name = first_name(props.get("model_alias"), card_of(models).get("id"), props.get("model_path"))
    return Found(Kind.LLAMACPP, name or server.url, length or QWEN36_CONTEXT, facts, identity_of(props))


_READERS: Final[Mapping[Kind, Callable[[Server, dict[str, Any] | None], Coroutine[Any, Any, Found | None]]]] = {
    Kind.SGLANG: _read_sglang,
    Kind.VLLM: _read_vllm,
    Kind.LLAMACPP: _read_llamacpp,
}
_UNSAID: Final = "It doesn't say how long a context it takes; {length:,} tokens are assumed."


def card_of(models: Mapping[str, Any] | None) -> dict[str, Any]:
    """The first model of a `/v1/models`; empty where there is none."""
    cards = (models or {}).get("data")
    first = cards[0] if isinstance(cards, list) and cards else None
    return first if isinstance(first, dict) else {}


def first_name(*values: Any) -> str | None:
    """The first that can be the name of a model."""
    return next((value for value in values if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME), None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"[0-9]{1,9}", version)[:2]))


def _whole(label: str | None) -> int:
    """The number in a label; 0 where it is none."""
    return int(label) if label is not None and re.fullmatch(r"[0-9]{1,15}", label) else 0


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        return parse_object(data)
    except ValueError:
        return None
