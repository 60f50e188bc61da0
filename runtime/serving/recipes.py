"""A plan as commands: argv and environment of each server, and of the router before several.

What is left out: starting them (`runtime.serving.process`) and files for containers (`scripts/serving_docs.py`), which
are made from the same recipes. The options are those of SGLang 0.5.23, vLLM 0.32, llama.cpp's server of autumn 2026 and
sglang-router 0.3.2; tests hold them against lists that were taken from these programs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.dimensions import BF16, FP32
from runtime.model_card import Precision
from runtime.serving.fit import DRAFT_TOKENS
from runtime.serving.plan import Device, Engine, Plan

KEEP_THINKING: Final = json.dumps({"preserve_thinking": True})
REASONING_PARSER: Final = "qwen3"
TOOL_PARSER: Final = "qwen3_coder"
ROPE: Final = {
    "mrope_interleaved": True,
    "mrope_section": [11, 11, 10],
    "rope_type": "yarn",
    "rope_theta": 10_000_000,
    "partial_rotary_factor": 0.25,
    "original_max_position_embeddings": 262_144,
}
"""Rotary embeddings for a stretched context, as the model cards give them; the factor comes on top."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What is called, by name or path; a machine's own choice, so settings and not part of a plan."""

    sglang_python: str = "python"  # with SGLang installed
    vllm: str = "vllm"
    llama_server: str = "llama-server"
    router_python: str = "python"  # with sglang-router installed


@dataclass(frozen=True, slots=True)
class Address:
    host: str = "127.0.0.1"
    port: int = 30_000

    @property
    def url(self) -> str:
        reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - not bound here
        return f"http://{reached}:{self.port}"


@dataclass(frozen=True, slots=True)
class Command:
    """One process: what to run, with what added to the environment, and where it answers when it is ready."""

    role: str  # server, replica 0, router
    argv: tuple[str, ...]
    address: Address
    env: Mapping[str, str] = field(default_factory=dict)
    health: str = "/health"

    def shown(self) -> str:
        """For a shell, an option per line."""
        lines, argv = [], list(self.argv)
        start = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
        lines.append(shlex.join(argv[:start]))
        for word in argv[start:]:
            if word.startswith("--"):
                lines.append(word)
            else:
                lines[-1] += " " + shlex.quote(word)
        settings = "".join(f"{key}={shlex.quote(value)} " for key, value in self.env.items())
        return settings + " \\\n    ".join(lines)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All processes of a plan. Clients use `url`, which is the router's where there is one."""

    servers: tuple[Command, ...]
    router: Command | None = None

    @property
    def url(self) -> str:
        return (self.router or self.servers[0]).address.url

    @property
    def commands(self) -> tuple[Command, ...]:
        return (*self.servers, self.router) if self.router else self.servers


def make_recipe(
    plan: Plan, address: Address = Address(), programs: Programs = Programs(), extra: tuple[str, ...] = ()
) -> Recipe:
    """The commands of a plan. `extra`: options of the user for the model servers, after ours, so that they win."""
    if plan.replicas == 1:
        return Recipe((_server(plan, address, programs, extra, "server", None),))
    servers = []
    for number in range(plan.replicas):
        cards = tuple(range(number * plan.tp, (number + 1) * plan.tp))
        own = Address("127.0.0.1", address.port + 1 + number)
        servers.append(_server(plan, own, programs, extra, f"replica {number}", cards))
    router = router_command([server.address.url for server in servers], address, programs)
    return Recipe(tuple(servers), router)


def _server(
    plan: Plan, address: Address, programs: Programs, extra: tuple[str, ...], role: str, cards: tuple[int, ...] | None
) -> Command:
    build = {Engine.SGLANG: _sglang, Engine.VLLM: _vllm, Engine.LLAMACPP: _llamacpp}[plan.engine]
    argv, env = build(plan, address, programs)
    if cards is not None:
        env = {"CUDA_VISIBLE_DEVICES": ",".join(str(card) for card in cards), **env}
    return Command(role, (*argv, *extra), address, env)


def _sglang(plan: Plan, address: Address, programs: Programs) -> tuple[list[str], dict[str, str]]:
    fit, env = plan.fit, {}
    argv = [programs.sglang_python, "-m", "sglang.launch_server", "--model-path", plan.variant.hub]
    argv += ["--served-model-name", plan.model.name, *_at(address)]
    argv += ["--context-length", str(fit.context), "--max-running-requests", str(fit.requests)]
    if plan.device is Device.CPU:
        argv += _sglang_cpu(plan)
        env = {"SGLANG_USE_CPU_ENGINE": "1", "SGLANG_MAMBA_CONV_DTYPE": "float32", "OMP_NUM_THREADS": "1"}
    else:
        argv += _sglang_memory(plan)
    # One list for every kind of hardware: the OpenAI endpoint parses thinking and calls, usage tells of the cache.
    argv += ["--reasoning-parser", REASONING_PARSER, "--tool-call-parser", TOOL_PARSER]
    argv += ["--default-chat-template-kwargs", KEEP_THINKING, "--enable-cache-report", "--enable-metrics"]
    argv += ["--enable-priority-scheduling", "--disable-priority-preemption", "--incremental-streaming-output"]
    override = _override(plan)
    if override:
        argv += ["--json-model-override-args", json.dumps(override)]
    if plan.yarn is not None:
        env["SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"] = "1"
    return argv, env


# SGLang's own interval is 256: a turn that ends 255 tokens behind the last mark is read again by the next one.
_KEPT_STATES: Final = ("--mamba-radix-cache-strategy", "extra_buffer", "--mamba-track-interval", "64")


def _sglang_memory(plan: Plan) -> list[str]:
    fit = plan.fit
    argv = ["--tp-size", str(plan.tp), "--mem-fraction-static", f"{fit.fraction:.2f}"]
    argv += ["--chunked-prefill-size", str(fit.chunk), "--cuda-graph-max-bs-decode", str(fit.graph)]
    if plan.hybrid:
        argv += [*_KEPT_STATES, "--max-mamba-cache-size", str(fit.states)]
        argv += ["--mamba-ssm-dtype", "float32" if fit.spending.ssm == FP32 else "bfloat16"]
    if fit.spending.kv != BF16:
        argv += ["--kv-cache-dtype", "fp8_e4m3"]
    if fit.spending.mtp:
        argv += ["--speculative-algorithm", "NEXTN", "--speculative-num-steps", str(DRAFT_TOKENS - 1)]
        argv += ["--speculative-eagle-topk", "1", "--speculative-num-draft-tokens", str(DRAFT_TOKENS)]
    return argv


def _sglang_cpu(plan: Plan) -> list[str]:
    """Without a GPU, with the stand-in for SGLang's kernels on the path of its python."""
    argv = ["--device", "cpu", "--max-total-tokens", str(plan.fit.kv_tokens)]
    if plan.hybrid:
        argv += [*_KEPT_STATES, "--max-mamba-cache-size", str(plan.fit.states)]
    argv += ["--dtype", "float32", "--mamba-ssm-dtype", "float32"]
    argv += ["--attention-backend", "torch_native", "--sampling-backend", "pytorch"]
    argv += ["--disable-overlap-schedule", "--sleep-on-idle", "--cuda-graph-backend-decode", "disabled"]
    return [*argv, "--cuda-graph-backend-prefill", "disabled"]


def _override(plan: Plan) -> dict[str, Any]:
    """Changes to the config. `--language-model-only` is refused for this family; its field in the config is not."""
    override: dict[str, Any] = {}
    if plan.model.images and plan.variant.vision and not plan.fit.spending.images:
        override["language_model_only"] = True
    if plan.yarn is not None:
        override["text_config"] = {"rope_parameters": {**ROPE, "factor": plan.yarn}}
    return override


def _vllm(plan: Plan, address: Address, programs: Programs) -> tuple[list[str], dict[str, str]]:
    fit, env = plan.fit, {}
    argv = [programs.vllm, "serve", plan.variant.hub, "--served-model-name", plan.model.name, *_at(address)]
    argv += ["--tensor-parallel-size", str(max(plan.tp, 1)), "--max-model-len", str(fit.context)]
    if plan.device is Device.CUDA:
        argv += ["--gpu-memory-utilization", f"{fit.fraction:.2f}", "--max-num-batched-tokens", str(fit.chunk)]
    argv += ["--max-num-seqs", str(fit.requests), "--enable-prefix-caching"]
    if fit.spending.kv != BF16:
        argv += ["--kv-cache-dtype", "fp8"]
    if plan.model.images and plan.variant.vision and not fit.spending.images:
        argv.append("--language-model-only")
    argv += ["--reasoning-parser", REASONING_PARSER, "--enable-auto-tool-choice", "--tool-call-parser", TOOL_PARSER]
    argv += ["--default-chat-template-kwargs", KEEP_THINKING, "--enable-prompt-tokens-details"]
    if plan.yarn is not None:
        argv += ["--hf-overrides", json.dumps({"text_config": {"rope_parameters": {**ROPE, "factor": plan.yarn}}})]
        env["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
    return argv, env


def _llamacpp(plan: Plan, address: Address, programs: Programs) -> tuple[list[str], dict[str, str]]:
    fit, variant = plan.fit, plan.variant
    if variant.precision is Precision.LOCAL:
        weights = ["--model", variant.hub]
    else:
        weights = ["--hf-repo", variant.hub, *(["--hf-file", variant.file] if variant.file else [])]
    argv = [programs.llama_server, *weights, "--alias", plan.model.name, *_at(address)]
    argv += ["--ctx-size", str(fit.context), "--parallel", str(fit.requests), "--kv-unified"]
    argv += ["--n-gpu-layers", "all" if plan.device is Device.CUDA else "0"]
    if fit.spending.kv == BF16:
        argv += ["--flash-attn", "auto"]
    else:  # the values can only be kept in 8 bits where they are read by flash attention
        argv += ["--flash-attn", "on", "--cache-type-k", "q8_0", "--cache-type-v", "q8_0"]
    argv += ["--ctx-checkpoints", str(fit.checkpoints)]
    if plan.device is Device.CPU:
        argv += ["--cache-ram", "0"]
    if plan.yarn is not None:
        argv += ["--rope-scaling", "yarn", "--rope-scale", f"{plan.yarn:g}", "--yarn-orig-ctx", str(plan.model.context)]
    return [*argv, "--jinja", "--chat-template-kwargs", KEEP_THINKING, "--no-mmproj", "--metrics"], {}


def router_command(workers: Sequence[str], address: Address, programs: Programs = Programs()) -> Command:
    """The router before servers at these URLs: a trajectory stays with one, by the routing key in its header."""
    argv = [programs.router_python, "-m", "sglang_router.launch_router", *_at(address)]
    argv += ["--policy", "manual", "--assignment-mode", "min_load", "--request-timeout-secs", "7200"]
    # Its metrics have a port of their own, 29000 beside 30000: two routers on one machine must not share it.
    argv += ["--prometheus-port", str(address.port - 1000 if address.port > 2000 else address.port + 1000)]
    # `/health` is fine with it before it knows any server.
    return Command("router", (*argv, "--worker-urls", *workers), address, health="/get_model_info")


def _at(address: Address) -> list[str]:
    return ["--host", address.host, "--port", str(address.port)]
