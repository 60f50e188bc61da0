"""The contract over engines that are real: llama.cpp's server, vLLM, and the checkpoint in this process.

All of them have weights with known answers (`tests.servers.chain_model`). SGLang's run is in `tests/sglang`.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.ids import Ids
from runtime.models import connect
from runtime.models.base import Feature, FinishReason, Model, Sampling
from runtime.prefix import Strategy
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.contract import CONTRACT, GREEDY, Backend, check_name, chunks_of, joined
from tests.runtime.models.helpers import prompt
from tests.servers import llamacpp, vllm
from tests.servers.chain_model import ENDLESS, STRANGE, chains, newline, small_chains
from tests.servers.llamacpp import llamacpp_server
from tests.servers.shared import Server
from tests.servers.vllm import vllm_server

__all__ = ["llamacpp_server", "vllm_server"]

pytestmark = pytest.mark.timeout(900)  # one that starts a real server, on a machine that is busy with others

Check = Callable[[Backend], Awaitable[None]]
CHECKS = pytest.mark.parametrize("check", CONTRACT, ids=check_name)


def post(server: Server, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """JSON in, JSON out, without any client of ours. GET without a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        text = response.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


@contextmanager
def alone(server: Server) -> Iterator[None]:
    """No other worker's test uses the server meanwhile: requests are counted, and caches are."""
    with server.log.with_suffix(".alone").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@asynccontextmanager
async def backend_of(
    server: Server,
    open_requests: Callable[[], int],
    whole: Callable[[Ids], list[int]],
    granularity: int = 1,
) -> AsyncIterator[Backend]:
    async def count() -> int:
        return await asyncio.to_thread(open_requests)

    async def answer(ids: Ids) -> list[int]:
        return await asyncio.to_thread(whole, ids)

    model = await connect(server.url)
    try:
        yield Backend(
            model,
            prompt(),
            prompt().extended([ENDLESS]),
            count,
            answer,
            granularity=granularity,
            strange=prompt().extended([STRANGE]),
            strange_answer=chains().answers[STRANGE],
        )
    finally:
        await model.close()


@pytest.fixture
async def llamacpp_backend(llamacpp_server: Server) -> AsyncIterator[Backend]:
    def open_requests() -> int:
        return sum(slot["is_processing"] for slot in post(llamacpp_server, "/slots"))

    def whole(ids: Ids) -> list[int]:
        body = {"prompt": list(ids), "temperature": 0, "n_predict": 2000, "return_tokens": True}
        return list(post(llamacpp_server, "/completion", body)["tokens"])

    with alone(llamacpp_server):
        async with backend_of(llamacpp_server, open_requests, whole) as backend:
            yield backend


@pytest.fixture
async def vllm_backend(vllm_server: Server) -> AsyncIterator[Backend]:
    def open_requests() -> int:
        lines = post(vllm_server, "/metrics").splitlines()
        kinds = ("vllm:num_requests_running{", "vllm:num_requests_waiting{")
        return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(kinds)))

    def whole(ids: Ids) -> list[int]:
        body = {"model": "tiny", "prompt": list(ids), "temperature": 0, "max_tokens": 2000, "return_token_ids": True}
        return list(post(vllm_server, "/v1/completions", body)["choices"][0]["token_ids"])

    with alone(vllm_server):
        # Where vLLM keeps states it doesn't say, and the first time that a prompt comes it may keep none.
        async with backend_of(vllm_server, open_requests, whole, granularity=10_000) as backend:
            yield backend


@pytest.mark.llamacpp
@CHECKS
async def test_llamacpp(llamacpp_backend: Backend, check: Check) -> None:
    await check(llamacpp_backend)


@pytest.mark.vllm
@CHECKS
async def test_vllm(vllm_backend: Backend, check: Check) -> None:
    await check(vllm_backend)


@pytest.mark.torch
@CHECKS
async def test_embedded(embedded_backend: Backend, check: Check) -> None:
    await check(embedded_backend)


@pytest.fixture(scope="module")
def chain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from runtime.models.embedded_tokenizer import CheckpointTokenizer
    from tests.runtime.models.tiny_checkpoints import save_checkpoint
    from tests.servers import chain_checkpoint

    base = save_checkpoint(tmp_path_factory.mktemp("tiny") / "moe", "moe")
    answers = small_chains(CheckpointTokenizer.from_file(base / "tokenizer.json"))
    return chain_checkpoint.save(base.with_name("chains"), base, answers)


@pytest.fixture
async def embedded_backend(chain_folder: Path) -> AsyncIterator[Backend]:
    pytest.importorskip("torch", reason="needs the extra `embedded`")
    from runtime.models.embedded import load

    model = load(chain_folder, device="cpu", threads=1)
    tokenizer = model.tokenizer
    answers = small_chains(tokenizer).answers
    ids = Ids(tokenizer.encode_with_specials("<|im_start|>user\nFix it.<|im_end|>\n<|im_start|>assistant\n<think>\n"))
    running = 0
    submit = model._worker.submit

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal running
        running += 1

        def done(_: object) -> None:
            nonlocal running
            running -= 1

        work = submit(*arguments, **named)
        work.add_done_callback(done)
        return work

    model._worker.submit = counted  # type: ignore[method-assign]

    async def open_requests() -> int:
        return running

    async def whole(prompt: Ids) -> list[int]:
        assert prompt == ids
        return list(answers[newline(tokenizer)])

    yield Backend(model, ids, ids.extended(tokenizer.encode(" ")), open_requests, whole)
    await model.close()


@pytest.mark.llamacpp
async def test_what_llamacpp_says_of_itself(llamacpp_server: Server) -> None:
    model = await connect(llamacpp_server.url)
    facts = model.facts
    assert (model.name, model.context_length) == ("tiny", llamacpp.CONTEXT)
    assert (facts.engine, facts.pools.requests, facts.notes) == ("llamacpp", llamacpp.SLOTS, ())
    assert facts.features == {Feature.EXACT_IDS, Feature.CACHED_TOKENS}
    await model.close()


@pytest.mark.vllm
async def test_what_vllm_says_of_itself(vllm_server: Server) -> None:
    model = await connect(vllm_server.url)
    facts = model.facts
    assert (model.name, model.context_length) == ("tiny", vllm.CONTEXT)
    assert (facts.engine, facts.version, facts.notes) == ("vllm", "0.32.0", ())
    assert facts.features >= {Feature.EXACT_IDS, Feature.CACHED_TOKENS}
    assert facts.pools.kv_tokens is not None
    assert facts.pools.kv_tokens > 100_000
    await model.close()


async def _text(model: Model, ids: Ids) -> tuple[str, FinishReason | None]:
    received: list[int] = []
    finish = None
    async for chunk in model.stream(ids, Sampling(temperature=0, max_new_tokens=100), request_id="x"):
        received += chunk.ids
        finish = chunk.finish
    return qwen_tokenizer().decode(received), finish


@pytest.mark.llamacpp
async def test_llamacpp_as_a_host_of_messages(llamacpp_server: Server) -> None:
    with alone(llamacpp_server):
        model = await connect(f"chat:{llamacpp_server.url}")
        assert Feature.EXACT_IDS not in model.facts.features
        text, finish = await _text(model, prompt())
        await model.close()
    assert text.startswith("I look at the file first.\n</think>\n\n")
    assert finish is FinishReason.STOP


@pytest.mark.vllm
async def test_vllm_as_a_host_of_messages(vllm_server: Server) -> None:
    with alone(vllm_server):
        model = await connect(f"chat:{vllm_server.url}")
        assert Feature.EXACT_IDS not in model.facts.features
        text, finish = await _text(model, prompt())
        await model.close()
    assert "I look at the file first." in text
    assert finish is FinishReason.STOP


@pytest.mark.vllm
async def test_a_run_of_turns_on_vllm_finds_whole_blocks(vllm_backend: Backend) -> None:
    rules = vllm_backend.model.facts.cache
    assert rules is not None
    assert rules.strategy is Strategy.UNKNOWN
    tokenizer, ids, known, cached = qwen_tokenizer(), prompt("Twelve turns."), 0, [0]
    observation = "<tool_response>\n" + "so it is and not otherwise " * 30 + "\n</tool_response>"
    framing = f"\n<|im_start|>user\n{observation}<|im_end|>\n<|im_start|>assistant\n<think>\n"
    for _ in range(12):
        chunks = await chunks_of(vllm_backend, ids, GREEDY)
        cached.append(chunks[-1].usage.cached_tokens)
        assert cached[-1] % rules.page == 0
        assert cached[-2] <= cached[-1] <= known
        known = len(ids) + len(joined(chunks))
        ids = ids.extended(joined(chunks)).extended(tokenizer.encode_with_specials(framing))
    assert known - cached[-1] < 3 * rules.page
    assert cached[-1] > known / 2


@pytest.mark.llamacpp
async def test_a_run_of_turns_on_llamacpp_computes_only_what_is_new(llamacpp_backend: Backend) -> None:
    """The recurrent state at the end of a turn stays in its slot: nothing but the framing and the answer is new."""
    tokenizer, ids, known = qwen_tokenizer(), prompt("Thirty turns."), 0
    framing = "\n<|im_start|>user\n<tool_response>\nok\n</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n"
    for _ in range(30):
        chunks = await chunks_of(llamacpp_backend, ids, GREEDY)
        usage = chunks[-1].usage
        assert known - 1 <= usage.cached_tokens <= known if known else True
        ids = ids.extended(joined(chunks))
        known = len(ids)
        ids = ids.extended(tokenizer.encode_with_specials(framing))
