"""Attempts from one prefix: what the server computes for them, and what they take of memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from agent import checkout
from agent.fork import forked, sandboxes
from agent.worktree import Worktree
from runtime.models.base import RequestOptions, Sampling
from runtime.models.connect import connect
from runtime.models.scripted import ScriptedServer
from runtime.qwen_bpe import qwen_tokenizer
from runtime.transcript import Observations, Prompt, Transcript, Turn
from sandbox.base import SandboxError
from tests.agent.repos import CALC, git, make_repo
from tests.sandbox.kinds import KINDS, SPEC, opener

TURN = {"reasoning": "One of several ways.", "content": "Done."}


def conversation(lines: int = 150) -> Transcript:
    """A prompt, a turn and its answer."""
    transcript = Transcript(qwen_tokenizer())
    text = "\n".join(f"{number}. Something is said about the number {number}." for number in range(lines))
    transcript.append(Prompt([{"role": "user", "content": text}]))
    transcript.append(Turn(qwen_tokenizer().encode_with_specials("Hm.\n</think>\n\nI look.")))
    transcript.append(Observations([text]))
    return transcript


@pytest.mark.parametrize("cache", [{"strategy": "tokens"}, {"strategy": "extra_buffer"}, {"strategy": "no_buffer"}])
async def test_attempts_from_one_prefix_cost_one_prefill(cache: dict[str, Any]) -> None:
    start = conversation()
    async with ScriptedServer({"turns": [TURN, TURN, TURN], "cache": cache}) as server:
        model = await connect(server.url)
        options = RequestOptions(routing_key="run")
        attempts = await forked(model, start, 4, request_id="run-warm", options=options)

        async def go_on(number: int) -> None:
            ids = attempts[number].ids
            async for _ in model.stream(ids, Sampling(), request_id=f"run-{number}", options=options):
                pass

        await asyncio.gather(*map(go_on, range(4)))
        await model.close()
        computed = [len(request.prompt_ids) - request.cached_tokens for request in server.requests]
        keys = {request.body.get("routing_key") for request in server.requests}
    assert len(computed) == 5
    assert computed[0] == len(start.ids) - 1
    assert all(tokens <= 64 for tokens in computed[1:])
    assert keys == {"run"}


async def test_a_single_attempt_needs_no_warming() -> None:
    async with ScriptedServer([TURN, TURN]) as server:
        model = await connect(server.url)
        (attempt,) = await forked(model, conversation(3), 1, request_id="run")
        await model.close()
        assert len(server.requests) == 0
    assert attempt.ids == conversation(3).ids


def test_forks_share_what_is_there() -> None:
    start = Transcript(qwen_tokenizer())
    start.append(Prompt([{"role": "user", "content": "A long story. " * 40_000}]))
    start.ids.json()
    whole = len(start.ids.json()) + 4 * len(start.ids)
    assert whole > 1_000_000
    turn = qwen_tokenizer().encode_with_specials("I do it otherwise.\n</think>\n\nDone.")
    tracemalloc.start()
    try:
        forks = [start.fork() for _ in range(16)]
        untouched = tracemalloc.get_traced_memory()[0]
        for fork in forks:
            fork.append(Turn(turn))
            fork.ids.json_parts()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert untouched < 16 * 2_000
    assert grown < 16 * (4 * len(start.ids) * 1.3 + 20_000)  # the ids again, but none of their text
    assert all(fork.ids[: len(start.ids)] == tuple(start.ids) for fork in forks[:2])


@pytest.mark.parametrize("kind", KINDS)
async def test_attempts_from_one_prepared_sandbox(kind: str, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", {**CALC, ".gitignore": "built/\n"})
    base = await checkout.take_base(tmp_path / "bare", str(repo), git(repo, "rev-parse", "HEAD"))
    async with await opener(kind)(SPEC) as prepared:
        await prepared.run(
            'mkdir -p "$0/git/info"; echo from-the-image > "$0/git/info/exclude"'.replace("$0", prepared.state_dir)
        )
        worktree = Worktree(prepared, tmp_path / "bare", base)
        await worktree.fill()
        await prepared.run("mkdir built; echo 1 >built/out; echo x >from-the-image; echo found >notes; rm calc/ops.py")
        attempts = await sandboxes(prepared, worktree, 3)
        try:
            assert worktree.tree != base.tree
            for number, (fork, own) in enumerate(attempts):
                assert own.tree == worktree.tree
                assert not await own.checkpoint(), "nothing to look at yet"
                assert (await fork.run("cat built/out from-the-image notes; git status --short")).output == (
                    b"1\nx\nfound\n D calc/ops.py\n?? from-the-image\n?? notes\n"
                )
                await fork.run(f"echo {number} >>notes; git add -A; git commit -qm mine")
            diffs = [await own.diff() for _, own in attempts]
        finally:
            await asyncio.gather(*(fork.close() for fork, _ in attempts))
        for number, diff in enumerate(diffs):
            assert f"+found\n+{number}\n" in diff
            assert "deleted file" in diff
            assert "built" not in diff
            assert "from-the-image" not in diff
        assert "+found\n" in await worktree.diff()
        assert not await worktree.checkpoint()


async def test_attempts_that_cannot_be_opened_leave_nothing(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", CALC)
    base = await checkout.take_base(tmp_path / "bare", str(repo), git(repo, "rev-parse", "HEAD"))
    async with await opener("none")(SPEC) as prepared:
        worktree = Worktree(prepared, tmp_path / "bare", base)
        await worktree.fill()
        await prepared.write("f", b"x")
        await worktree.checkpoint()
        for folder in (tmp_path / "bare" / "objects").iterdir():  # the run's repository is lost
            for file in folder.iterdir() if folder.is_dir() else ():
                file.unlink()
        with pytest.raises((SandboxError, checkout.GitError)):
            await sandboxes(prepared, worktree, 2)
        assert (await prepared.run("cat f")).output == b"x"
