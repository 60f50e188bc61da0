"""The files of docs/serving for containers, made from the program's own recipes; scripts/docs.py writes them.

What is left out: other clusters' ways of asking for cards, secrets, ingress; the README
says what to change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.serving.hardware import describe
from runtime.serving.plan import Engine, Plan, Wish
from runtime.serving.planner import make_plan
from runtime.serving.recipes import Address, Command, Programs, make_recipe, router_command

FOLDER = Path(__file__).parent.parent / "docs/serving"
SGLANG_IMAGE = "lmsysorg/sglang:v0.5.23"
LLAMA_IMAGE = "ghcr.io/ggml-org/llama.cpp:server"
ROUTER_IMAGE = "python:3.11-slim"
ROUTER_SETUP = "pip install -q sglang-router==0.3.2"
PORT = 30_000
CACHE = "/root/.cache/huggingface"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a mount point
EVERYWHERE = Address("0.0.0.0", PORT)  # noqa: S104 - inside a container; published on the loopback only
PROGRAMS = Programs(sglang_python="python3", router_python="python3", llama_server="/app/llama-server")


def server(plan: Plan) -> Command:
    """One server of a plan, as it runs in a container of its own."""
    return make_recipe(replace(plan, replicas=1), EVERYWHERE, PROGRAMS).servers[0]


def router(workers: list[str]) -> list[str]:
    argv = router_command(workers, EVERYWHERE, PROGRAMS).argv
    return ["sh", "-c", f"{ROUTER_SETUP} && exec " + " ".join(argv)]


# ---------------------------------------------------------------------------------------------------------- compose


def compose(hardware: str) -> dict[str, Any]:
    plan = make_plan(Wish(), describe(hardware))
    command = server(plan)
    if plan.replicas == 1:
        services = {"model": {**_service(plan, command, list(range(plan.tp))), **_published()}}
    else:
        names = [f"model-{number}" for number in range(plan.replicas)]
        services = {
            name: _service(plan, command, list(range(n * plan.tp, (n + 1) * plan.tp))) for n, name in enumerate(names)
        }
        services["router"] = {
            "image": ROUTER_IMAGE,
            "command": router([f"http://{name}:{PORT}" for name in names]),
            **_published(),
            "depends_on": {name: {"condition": "service_healthy"} for name in names},
            "restart": "unless-stopped",
        }
    return {"name": "patchwright-model", "services": services, "volumes": {"hub": {}}}


def _service(plan: Plan, command: Command, cards: list[int]) -> dict[str, Any]:
    service: dict[str, Any] = {"image": LLAMA_IMAGE if plan.engine is Engine.LLAMACPP else SGLANG_IMAGE}
    service |= {"entrypoint": [command.argv[0]], "command": list(command.argv[1:])}
    environment = dict(command.env) | ({"LLAMA_CACHE": CACHE} if plan.engine is Engine.LLAMACPP else {})
    if environment:
        service["environment"] = environment
    service |= {"volumes": [f"hub:{CACHE}"], "restart": "unless-stopped", "stop_grace_period": "40s"}
    if plan.hardware.cards:
        devices = [{"driver": "nvidia", "device_ids": [str(card) for card in cards], "capabilities": ["gpu"]}]
        service |= {"ipc": "host", "deploy": {"resources": {"reservations": {"devices": devices}}}}
    service["healthcheck"] = {
        "test": ["CMD-SHELL", f"curl -fs http://127.0.0.1:{PORT}{command.health} || exit 1"],
        "interval": "10s",
        "timeout": "5s",
        "start_period": "60m",
    }
    return service


def _published() -> dict[str, Any]:
    return {"ports": [f"127.0.0.1:{PORT}:{PORT}"]}


# ------------------------------------------------------------------------------------------------------- kubernetes


def kubernetes(hardware: str) -> list[dict[str, Any]]:
    plan = make_plan(Wish(), describe(hardware))
    command = server(plan)
    if plan.replicas == 1:
        return [
            _workload("Deployment", "model", 1, _pod(plan, command, "hub")),
            _claim(),
            _kube_service("model", "model"),
        ]
    pods = [f"http://model-{number}.models:{PORT}" for number in range(plan.replicas)]
    models = _workload("StatefulSet", "model", plan.replicas, _pod(plan, command, None))
    models["spec"] |= {"serviceName": "models", "podManagementPolicy": "Parallel"}
    models["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "hub"}, "spec": _claim()["spec"]}]
    container = {
        "name": "router",
        "image": ROUTER_IMAGE,
        "command": router(pods),
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}},
    }
    return [
        models,
        {
            **_kube_service("models", "model"),
            "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, **_selecting("model")},
        },
        _workload("Deployment", "router", 1, {"containers": [container]}),
        _kube_service("model", "router"),
    ]


def _pod(plan: Plan, command: Command, claim: str | None) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "model",
        "image": LLAMA_IMAGE if plan.engine is Engine.LLAMACPP else SGLANG_IMAGE,
        "command": list(command.argv),
    }
    if command.env:
        container["env"] = [{"name": name, "value": value} for name, value in command.env.items()]
    answers = {"httpGet": {"path": command.health, "port": PORT}, "periodSeconds": 10}
    container |= {
        "ports": [{"containerPort": PORT}],
        "startupProbe": {**answers, "failureThreshold": 360},
        "readinessProbe": answers,
        "resources": {"limits": {"nvidia.com/gpu": plan.tp}},
        "volumeMounts": [{"name": "hub", "mountPath": CACHE}, {"name": "shm", "mountPath": SHARED_MEMORY}],
    }
    volumes: list[dict[str, Any]] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}}]
    if claim is not None:
        volumes.append({"name": "hub", "persistentVolumeClaim": {"claimName": claim}})
    return {"terminationGracePeriodSeconds": 60, "containers": [container], "volumes": volumes}


def _workload(kind: str, name: str, replicas: int, pod: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _claim() -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "200Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "hub"}, "spec": spec}


def _kube_service(name: str, app: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": _selecting(app)}


def _selecting(app: str) -> dict[str, Any]:
    return {"selector": {"app": app}, "ports": [{"port": PORT, "targetPort": PORT}]}


# ------------------------------------------------------------------------------------------------------------- files


def yaml(value: Any) -> str:
    """YAML with one value per line; every text that could be read as something else is in quotes."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entry(f"{_scalar(key)}:", inner)
    else:
        for inner in value:
            first, *rest = _lines(inner) if isinstance(inner, dict | list) and inner else [_scalar(inner)]
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)


def _entry(key: str, inner: Any) -> Iterator[str]:
    if isinstance(inner, dict | list) and inner:
        yield key
        yield from (f"  {line}" for line in _lines(inner))
    else:
        yield f"{key} {_scalar(inner)}"


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"-{0,2}[A-Za-z/]([A-Za-z0-9 ./_-]*[A-Za-z0-9./_-])?", value)
    if plain and value.lower() not in ("yes", "no", "on", "off", "true", "false", "null"):
        return str(value)
    return json.dumps(value)


def _head(hardware: str) -> str:
    return (
        f"# For {describe(hardware)}.\n"
        f"# Generated from the plan of `agent model serve --dry-run --hardware {hardware}`: `make docs` writes it.\n"
    )


COMPOSE = {"one-80-gb-card": "1x80", "two-16-gb-cards": "2x16", "eight-80-gb-cards": "8x80", "no-gpu-32-gb": "cpu:32"}
KUBERNETES = {"one-80-gb-card": "1x80", "eight-80-gb-cards": "8x80"}


def files() -> dict[Path, str]:
    """Every generated file, and what has to be in it."""
    made = {FOLDER / f"compose.{name}.yaml": _head(where) + yaml(compose(where)) for name, where in COMPOSE.items()}
    for name, where in KUBERNETES.items():
        documents = "---\n".join(yaml(document) for document in kubernetes(where))
        made[FOLDER / f"kubernetes.{name}.yaml"] = _head(where) + documents
    return made
