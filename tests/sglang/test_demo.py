"""The demo checkpoint on the real SGLang server: it tells its run, by its own tokenizer."""

from __future__ import annotations

from random import Random

import pytest

from examples.demo.record import load
from examples.demo.script import TURNS, prompt, specs
from examples.demo.vary import vary
from runtime.models import connect
from runtime.models.base import Feature, Sampling
from runtime.models.embedded_tokenizer import CheckpointTokenizer
from runtime.tool_calls import parse
from runtime.transcript import Observations, Prompt, Transcript, Turn
from tests.servers.sglang import DEMO_CHECKPOINT
from tests.servers.shared import Server

pytest.importorskip("tokenizers", reason="needs the extra `embedded`")

pytestmark = pytest.mark.sglang


async def test_it_tells_its_run(sglang_demo: Server) -> None:
    run = vary(load()[0], Random("sglang"))
    model = await connect(sglang_demo.url)
    try:
        assert (model.facts.engine, Feature.EXACT_IDS in model.facts.features) == ("sglang", True)
        assert model.tokenizer.name == CheckpointTokenizer.from_file(DEMO_CHECKPOINT / "tokenizer.json").name
        transcript = Transcript(model.tokenizer)
        transcript.append(Prompt(tuple(prompt(run.workdir)), tuple(specs())))
        kept = 0
        for number, turn in enumerate(TURNS):
            known = len(transcript.ids)
            ids: list[int] = []
            async for chunk in model.stream(transcript.ids, Sampling(max_new_tokens=400), request_id="demo"):
                ids.extend(chunk.ids)
            text = model.tokenizer.decode(ids).removesuffix("<|im_end|>")
            assert text == turn.text
            (call,) = parse(text, specs()).calls
            assert (call.name, call.arguments) == (turn.tool, turn.arguments)
            # A state is kept where each request ended, so all of it but the last token is a hit.
            assert number == 0 or chunk.usage.cached_tokens == kept
            kept = known + len(ids) - 1
            transcript.append(Turn(ids, "stop"))
            if number < len(run.observations):
                transcript.append(Observations((run.observations[number],)))
    finally:
        await model.close()
