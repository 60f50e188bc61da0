"""How many prompt tokens a server computes for the same run of thirty turns, sent as we do and as others do.

`python benchmarks/prefix_reuse.py [--check] [--server scripted|real]`. The real server is SGLang on this machine's
CPU (`scripts/sglang-cpu.sh`) with a random hybrid checkpoint, made to write the conversation's very tokens by a
logit processor; the scripted one counts by the same rules (`runtime/prefix.py`). Four forms in one run:

- ids: our transcript over `/generate`;
- messages, thinking kept: `/v1/chat/completions`, reasoning sent back, `preserve_thinking`;
- messages, thinking dropped: the same, with the template's default;
- messages, thinking never sent back.

The server has been warmed with the system prompt and the tools, each form's in its own way; that isn't counted. Left
out: time. What isn't computed isn't waited for; how long the rest takes is the hardware's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also where the project isn't installed

from agent.prompts import system_prompt, task_prompt
from benchmarks.reuse_conversation import DEVIATIONS, Step, conversation
from runtime.chat import render_system
from runtime.prefix import CacheRules, PrefixModel, PrefixUse, Reason, Strategy
from runtime.qwen_bpe import qwen_tokenizer
from runtime.transcript import Observations, Prompt, Transcript, Turn, UserMessage
from tools import standard_tools

ROOT = Path(__file__).resolve().parents[1]
RULES = {
    Strategy.EXTRA_BUFFER: CacheRules(Strategy.EXTRA_BUFFER, decode_interval=64),
    Strategy.NO_BUFFER: CacheRules(Strategy.NO_BUFFER),
}
GRID = 64  # tokens; beside others a prompt is cut into parts anywhere, which shifts its checkpoints less than that
MOST_OF_DROPPED = 1 / 3  # of what messages without old thinking cost
SPECS = [tool.spec for tool in standard_tools()]
START = [
    {"role": "system", "content": system_prompt()},
    {"role": "user", "content": task_prompt("The total is wrong when a page is empty.", workdir="/workspace")},
]


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers each turn with the text that it is to write."""

    url: str
    rules: CacheRules
    processor: str | None = None  # the logit processor that makes a real one do so

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=1800) as response:
            text = response.read().decode()
        return json.loads(text) if text.startswith("{") else text

    def forced(self, ids: list[int]) -> dict[str, Any]:
        return {"custom_params": {"forced": ids}} if self.processor else {}

    def own(self, form: str) -> dict[str, Any]:
        """What keeps a form's prefixes apart from the others', and the processor."""
        return {"custom_logit_processor": self.processor, "extra_key": form} if self.processor else {}


@dataclass(slots=True)
class Form:
    """One way to send the conversation, and what its prompts came to."""

    name: str
    send: Callable[[Server, Form, list[Step]], None]
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: int = 0
    cached: int = 0

    @property
    def computed(self) -> int:
        return self.prompt - self.cached

    def took(self, prompt: int, cached: int) -> None:
        self.prompt += prompt
        self.cached += cached


def written(step: Step) -> list[int]:
    return [*qwen_tokenizer().encode_with_specials(step.text), qwen_tokenizer().special("<|im_end|>")]


# -- the forms --------------------------------------------------------------------------------------------------


def warm_by_ids(server: Server, form: Form) -> list[int]:
    """The server computes what all runs begin with: system prompt and tools, up to their very end. Gives the ids."""
    ids = qwen_tokenizer().encode_with_specials(render_system(START[0]["content"], SPECS))
    sampling = {"max_new_tokens": 1, **server.forced([198])}
    server.post("/generate", {"input_ids": ids, "sampling_params": sampling, **server.own(form.name)})
    return ids


def warm_by_messages(server: Server, form: Form) -> None:
    """The same as far as messages can: the second of two that part there leaves a checkpoint before the parting."""
    for said in ("Hello.", "Is anybody there?"):
        body = _chat(server, form, [START[0], {"role": "user", "content": said}], [198])
        server.post("/v1/chat/completions", body)


def _chat(server: Server, form: Form, messages: list[dict[str, Any]], wanted: list[int]) -> dict[str, Any]:
    return {
        "model": "any",
        "messages": messages,
        "tools": SPECS,
        "max_tokens": len(wanted),
        "temperature": 0,
        "chat_template_kwargs": {"preserve_thinking": form.options["preserve"]},
        **server.forced(wanted),
        **server.own(form.name),
    }


def send_ids(server: Server, form: Form, steps: list[Step]) -> list[PrefixUse]:
    """Ours; also says how each prompt fared against the rules."""
    transcript = Transcript(qwen_tokenizer())
    transcript.append(Prompt(START, SPECS))
    watch, uses = PrefixModel(server.rules), list[PrefixUse]()
    watch.took(warm_by_ids(server, form), [198], 0)
    for step in steps:
        ids, wanted = transcript.ids, written(step)
        sampling = {"max_new_tokens": len(wanted), "temperature": 0, **server.forced(wanted)}
        body = {"input_ids": list(ids), "sampling_params": sampling, **server.own(form.name)}
        answer = server.post("/generate", body)
        if answer["output_ids"] != wanted:
            sys.exit(f"{server.url} wrote something else than the conversation's turn: its numbers would mean nothing")
        counts = answer["meta_info"]
        form.took(counts["prompt_tokens"], counts["cached_tokens"])
        uses.append(watch.took(ids, wanted, counts["cached_tokens"]))
        transcript.append(Turn(wanted))
        transcript.append(UserMessage(step.answer) if step.by_user else Observations([step.answer]))
    return uses


def send_messages(server: Server, form: Form, steps: list[Step]) -> None:
    """As clients of chat completions do: what came back goes into the list of messages, and all of it is sent."""
    warm_by_messages(server, form)
    messages: list[dict[str, Any]] = list(START)
    for step in steps:
        wanted = written(step)
        body = _chat(server, form, messages, wanted)
        answer = server.post("/v1/chat/completions", body)
        usage, said = answer["usage"], answer["choices"][0]["message"]
        form.took(usage["prompt_tokens"], (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        message = {"role": "assistant", "content": said["content"] or ""}
        if form.options["send_back"]:
            message["reasoning_content"] = said["reasoning_content"]
        if said.get("tool_calls"):
            message["tool_calls"] = said["tool_calls"]
        messages.append(message)
        if step.by_user:
            messages.append({"role": "user", "content": step.answer})
        else:
            call = said["tool_calls"][0]["id"]
            messages.append({"role": "tool", "tool_call_id": call, "content": step.answer})


def forms() -> list[Form]:
    return [
        Form("messages, thinking kept", send_messages, {"preserve": True, "send_back": True}),
        Form("messages, thinking dropped", send_messages, {"preserve": False, "send_back": True}),
        Form("messages, thinking never sent back", send_messages, {"preserve": False, "send_back": False}),
    ]


# -- the servers ------------------------------------------------------------------------------------------------

_PROCESSOR = """
import dill, json
class Forced:
    "Leaves one token to choose: the next of those that the request names."
    def __call__(self, logits, params):
        for row, request in enumerate(params):
            ids = request["forced"]
            token = ids[min(len(request["__req__"].output_ids), len(ids) - 1)]
            logits[row] = float("-inf")
            logits[row, token] = 0.0
        return logits
print(json.dumps({"callable": dill.dumps(Forced, byref=False).hex()}))
"""


@contextmanager
def real_server(rules: CacheRules) -> Iterator[Server]:
    """SGLang on the CPU with the hybrid checkpoint, for as long as the block."""
    from examples.checkpoints import hybrid
    from tests.servers.sglang import Setup, serve

    script = [str(ROOT / "scripts" / "sglang-cpu.sh"), "path"]
    found = subprocess.run(script, capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit("SGLang isn't installed for the CPU: run scripts/sglang-cpu.sh")
    python = Path(found.stdout.strip()) / "bin" / "python"
    processor = subprocess.run([python, "-c", _PROCESSOR], capture_output=True, text=True, check=True).stdout.strip()
    flags = f"--mamba-radix-cache-strategy {rules.strategy} --mamba-track-interval {rules.decode_interval}"
    flags += " --enable-custom-logit-processor --context-length 32768 --max-total-tokens 131072"
    flags += " --max-mamba-cache-size 400"
    setup = Setup("prefix-reuse", hybrid.cached, tuple(flags.split()))
    with tempfile.TemporaryDirectory() as folder, serve(setup, Path(folder)) as server:
        yield Server(server.url, rules, processor)


@contextmanager
def scripted_server(rules: CacheRules, steps: list[Step]) -> Iterator[Server]:
    """The scripted server with the same rules, in a thread."""
    from runtime.models.scripted import ScriptedServer

    script = {
        "turns": [{"text": step.text} for step in steps],
        "cache": {"strategy": str(rules.strategy), "decode_interval": rules.decode_interval},
    }
    loop, ready, urls = asyncio.new_event_loop(), threading.Event(), list[str]()
    stop = asyncio.Event()

    async def serve() -> None:
        async with ScriptedServer(script) as server:
            urls.append(server.url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    ready.wait(60)
    try:
        yield Server(urls[0], rules)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


# -- the comparison ---------------------------------------------------------------------------------------------


def compare(server: Server, steps: list[Step]) -> tuple[Form, list[PrefixUse], list[Form]]:
    """Ours with what became of each prompt, and the others. On a real server all at once, in caches of their own."""
    ours, others = Form("ids", lambda *_: None), forms()
    if server.processor:
        with ThreadPoolExecutor(4) as pool:
            mine = pool.submit(send_ids, server, ours, steps)
            for done in [pool.submit(form.send, server, form, steps) for form in others]:
                done.result()
            return ours, mine.result(), others
    uses = send_ids(server, ours, steps)
    for form in others:
        server.post("/flush_cache", {})
        form.send(server, form, steps)
    return ours, uses, others


def report(ours: Form, uses: list[PrefixUse], others: list[Form]) -> list[str]:
    """The table, and the goals that were missed."""
    new = sum(use.uncached.get(reason, 0) for use in uses for reason in (Reason.NEW, Reason.FIRST_TURN))
    print("| sent as | prompt tokens | cached | computed | of these, more than what was new | ours of it |")
    print("|---|---:|---:|---:|---:|---:|")
    for form in (ours, *others):
        print(
            f"| {form.name} | {form.prompt} | {form.cached / form.prompt:.1%} | {form.computed} "
            f"| {form.computed - new} | {ours.computed / form.computed:.2f} |"
        )
    exact = sum(use.cached == use.expected for use in uses)
    print(f"\nours, foreseen to the token: {exact} of {len(uses)} turns")
    _, dropped, _ = others
    goals = {
        f"ours is at most {MOST_OF_DROPPED:.2f} of messages with thinking dropped": ours.computed
        <= MOST_OF_DROPPED * dropped.computed,
        "ours is never more than another": all(ours.computed <= form.computed for form in others),
        "each of our turns as foreseen, within a checkpoint's grid": all(
            use.expected is not None and abs((use.cached or 0) - use.expected) < GRID for use in uses
        ),
    }
    for goal, met in goals.items():
        print(f"{'met   ' if met else 'MISSED'} {goal}")
    return [goal for goal, met in goals.items() if not met]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with status 1 when a goal is missed")
    parser.add_argument("--server", choices=["scripted", "real"], default="scripted")
    parser.add_argument("--strategy", type=Strategy, choices=list(RULES), default=Strategy.EXTRA_BUFFER)
    options = parser.parse_args()
    steps, rules = conversation(), RULES[options.strategy]
    with real_server(rules) if options.server == "real" else scripted_server(rules, steps) as server:
        lengths = sorted(len(written(step)) for step in steps)
        print(
            f"{len(steps)} turns of {lengths[0]} to {lengths[-1]} tokens ({sum(lengths)} in all), {len(DEVIATIONS)} of "
            f"them not as a template would write them; {options.server} server\n"
        )
        missed = report(*compare(server, steps))
    if missed and options.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
