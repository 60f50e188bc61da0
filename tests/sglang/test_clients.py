"""Clients that know nothing of us, unchanged, against what `agent model serve` started: its endpoint is OpenAI's.

They run in an environment of their own (`scripts/clients.sh`), as programs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from examples.demo.record import load
from examples.demo.script import TURNS, prompt, specs
from runtime.models.embedded_tokenizer import CheckpointTokenizer
from runtime.transcript import Prompt, Transcript
from tests.servers.sglang import DEMO_CHECKPOINT, ROOT
from tests.servers.shared import Launch, Server, shared

pytest.importorskip("tokenizers", reason="needs the extra `embedded`")

pytestmark = pytest.mark.sglang

SDK = """
import json, sys
from openai import OpenAI

url, asked = sys.argv[1], json.load(sys.stdin)
client = OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
model = client.models.list().data[0].id
for _ in range(2):  # where the first leaves the prefix that was warmed, it keeps a state there and none at its end
    whole = client.chat.completions.create(model=model, **asked)
streamed = {"reasoning_content": "", "content": "", "name": "", "arguments": ""}
stream = client.chat.completions.create(model=model, stream=True, stream_options={"include_usage": True}, **asked)
for chunk in stream:
    for choice in chunk.choices:
        for part in ("reasoning_content", "content"):
            streamed[part] += getattr(choice.delta, part, None) or ""
        for call in choice.delta.tool_calls or ():
            streamed["name"] += call.function.name or ""
            streamed["arguments"] += call.function.arguments or ""
    usage = chunk.usage
print(json.dumps({"whole": whole.model_dump(), "streamed": streamed, "usage": usage.model_dump()}))
"""
# Sampling as the model's card has it for precise coding.
TASK = """
task: tiny
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  {{until: [], do_sample: true, temperature: 0.6, top_p: 0.95, top_k: 20, min_p: 0.0, max_gen_toks: 40}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture(scope="session")
def clients() -> Path:
    """The python that has them."""
    done = subprocess.run([ROOT / "scripts" / "clients.sh", "path"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("the clients aren't installed: run scripts/clients.sh")
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def served(sglang_installed: None, servers_folder: Path) -> Iterator[Server]:
    """The demo checkpoint, as `agent model serve` serves it here."""
    python = ROOT / "examples" / "sglang_cpu" / "python"

    def command(port: int) -> Sequence[str]:
        model = ["model", "serve", str(DEMO_CHECKPOINT), "--device", "cpu", "--port", str(port)]
        return [sys.executable, "-m", "cli.main", *model]

    environment = {"PATCHWRIGHT_SGLANG_PYTHON": str(python), "PATCHWRIGHT_HOME": str(servers_folder / "home")}
    with shared(servers_folder / "served", Launch(command, environment)) as server:
        yield server


def ran(command: Sequence[str | Path], **options: Any) -> str:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | offline
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=600, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_openai_sdk_gets_the_demos_first_turn(clients: Path, served: Server) -> None:
    messages, tools = prompt(load()[0].workdir), specs()
    # The card's parameters, and none that the SDK has no name for.
    asked = {"messages": messages, "tools": tools, "temperature": 0.6, "top_p": 0.95, "max_tokens": 400}
    said = json.loads(ran([clients, "-c", SDK, served.url], input=json.dumps(asked)))
    (choice,) = said["whole"]["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert call["function"]["name"] == TURNS[0].tool == said["streamed"]["name"]
    for arguments in (call["function"]["arguments"], said["streamed"]["arguments"]):
        assert json.loads(arguments) == TURNS[0].arguments
    for thinking in (choice["message"]["reasoning_content"], said["streamed"]["reasoning_content"]):
        assert thinking.strip() == TURNS[0].thinking
    # The server has rendered the messages as our transcript does, but for the specs: it adds fields to their JSON.
    transcript = Transcript(CheckpointTokenizer.from_file(DEMO_CHECKPOINT / "tokenizer.json"))
    transcript.append(Prompt(tuple(messages), tuple(tools)))
    assert 0 <= said["usage"]["prompt_tokens"] - len(transcript.ids) <= 16 * len(tools)
    assert said["usage"]["prompt_tokens_details"]["cached_tokens"] > 0.9 * len(transcript.ids)


def test_lm_evaluation_harness_runs_a_task(clients: Path, served: Server, tmp_path: Path) -> None:
    questions = ["What is in the repository?", "Count the pages of 10 items, 3 on each.", "Say nothing."]
    data = tmp_path / "tiny.jsonl"
    data.write_text("".join(json.dumps({"question": each, "answer": "never said"}) + "\n" for each in questions))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "tiny.yaml").write_text(TASK.format(data=data))
    model = f"model=demo,base_url={served.url}/v1/chat/completions,num_concurrent=2,max_retries=1"
    arguments = ["--model", "local-chat-completions", "--model_args", model, "--tasks", "tiny"]
    output = ["--include_path", tasks, "--output_path", tmp_path / "out", "--log_samples", "--apply_chat_template"]
    ran([clients, "-m", "lm_eval", *arguments, *output], cwd=tmp_path)
    (results,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(results.read_text())
    assert found["results"]["tiny"]["exact_match,none"] == 0.0
    assert found["n-samples"]["tiny"]["effective"] == len(questions)
    (samples,) = (tmp_path / "out").rglob("samples_*.jsonl")
    answers = [json.loads(line)["resps"] for line in samples.read_text().splitlines()]
    assert len(answers) == len(questions)
    assert all(isinstance(answer, str) for ((answer,),) in answers)
