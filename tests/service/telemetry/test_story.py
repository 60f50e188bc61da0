"""A whole story in the real processes: what was logged, counted and traced of it, and that no secret is anywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agent.forges.fake.acts import FakeForge
from agent.forges.fake.server import fake_forge
from service.store import Store
from service.store.tokens import make_token
from service.telemetry import genai
from service.telemetry.ids import span_id, trace_id
from tests.runs.harness import BUGGY, ISSUE, fixing_turns, served
from tests.service.bot.conftest import SLUG
from tests.service.bot.test_process import children, free_port
from tests.service.telemetry.receiver import Receiver, receiving
from tests.service.telemetry.test_metrics import Samples, of, samples

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
HOOK = "planted-webhook-secret-8f2c"
OLD_HOOK = "planted-older-webhook-secret-77aa"
METRICS = "planted-metrics-token-51d0"
COLLECTOR = "planted-collector-key-0b3e"
HOSTED = "planted-key-of-a-host-9c4d"


@dataclass
class Service:
    """The processes as a user starts them, and where their words go."""

    port: int
    work_port: int
    home: Path
    out: Path
    process: subprocess.Popen[bytes]
    secrets: list[str]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.lines if one["event"] == name]

    async def scrape(self, port: int) -> Samples:
        return samples(await self.get(port, "/metrics", METRICS))

    async def get(self, port: int, path: str, token: str) -> str:
        async with httpx2.AsyncClient(timeout=60) as client:
            answer = await client.get(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
        return answer.text


@asynccontextmanager
async def running(folder: Path, forge: FakeForge, model: str, collector: Receiver) -> AsyncIterator[Service]:
    port, work_port = free_port(), free_port()
    app = await forge.add_app("patchwright", hook=f"http://127.0.0.1:{port}/webhooks/github", secret=HOOK)
    forge.install(app.id, SLUG)
    (folder / "key.pem").write_text(app.key)
    environment = {
        **os.environ, "PATCHWRIGHT_HOME": str(folder / "home"), "PATCHWRIGHT_WEBHOOK_SECRET": HOOK,
        "PATCHWRIGHT_WEBHOOK_SECRET_OLD": OLD_HOOK, "PATCHWRIGHT_GITHUB_API": forge.api,
        "PATCHWRIGHT_GITHUB_APP_ID": str(app.id), "PATCHWRIGHT_GITHUB_APP_KEY_FILE": str(folder / "key.pem"),
        "PATCHWRIGHT_SANDBOX": "none", "PATCHWRIGHT_MAX_STEPS": "20", "PATCHWRIGHT_LOG_LEVEL": "debug",
        "PATCHWRIGHT_METRICS_TOKEN": METRICS, "PATCHWRIGHT_WORKER_METRICS_PORT": str(work_port),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={COLLECTOR}",
        "OTEL_BSP_SCHEDULE_DELAY": "200", "OPENAI_API_KEY": HOSTED,
    }  # fmt: skip
    out = folder / "service.log"
    command = [sys.executable, "-m", "cli.main", "service", "start", "--port", str(port), "--model", model]
    with out.open("wb") as log, (folder / "service.out").open("wb") as said:
        process = subprocess.Popen(command, env=environment, stderr=log, stdout=said)
    secrets = [HOOK, OLD_HOOK, METRICS, COLLECTOR, HOSTED, *app.key.splitlines()[1:-1]]
    service = Service(port, work_port, folder / "home", out, process, secrets)
    try:
        await until(lambda: answers(port), "the web process")
        yield service
    finally:
        process.terminate()
        assert process.wait(120) == 0


async def answers(port: int) -> bool:
    try:
        async with httpx2.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    except httpx2.TransportError:
        return False


async def until(seen: Any, what: str) -> Any:
    try:
        async with asyncio.timeout(240):
            while True:
                found = seen()
                found = await found if asyncio.iscoroutine(found) else found
                if found:
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{what} did not come") from None


def forms(secret: str) -> list[bytes]:
    plain = secret.encode()
    return [plain, base64.b64encode(plain).rstrip(b"="), base64.urlsafe_b64encode(plain).rstrip(b"=")]


async def test_a_story_is_logged_counted_and_traced_and_holds_no_secret(tmp_path: Path) -> None:
    with served(fixing_turns()) as model, receiving() as collector:
        async with fake_forge(tmp_path / "forge") as forge:
            await forge.add_repository(SLUG, BUGGY)
            forge.grant(SLUG, "mia", "maintain")
            title, _, body = ISSUE.partition("\n\n")
            number = await forge.open_issue(SLUG, "uma", title, f"{body}\n\n{HOSTILE}")
            async with running(tmp_path, forge, model.url, collector) as service:
                await forge.label(SLUG, number, "mia", "patchwright")
                await until(lambda: service.events("request ended"), "the end of the request")
                await forged(service.port)
                web, work = await service.scrape(service.port), await service.scrape(service.work_port)
                request = service.events("request ended")[0]["request"]
                token = token_of(service.home)
                api = await service.get(service.port, f"/api/v1/runs/{request}", token)
                await service.get(service.port, "/metrics", token)
                everything = api + await service.get(service.port, "/metrics", METRICS)
                await until(lambda: collector.named("webhook issues"), "the first span")
                (web_process,) = children(service.process.pid, "service.server")
                os.kill(web_process, signal.SIGKILL)
                await until(lambda: service.events("process"), "a word about the process that died")
        check_logs(service, request)
        check_metrics(web, work)
        check_spans(collector, request)
        check_secrets(service, [*service.secrets, token.rpartition("_")[2]], collector, everything, model.url, tmp_path)


HOSTILE = 'A text\r\n{"level":"error","event":"forged"}\x1b[31m that is hostile.'


def token_of(home: Path) -> str:
    store = Store.open(f"sqlite:///{home}/service.sqlite")
    made = make_token(store, "a program", ["runs:read"]).reveal()
    store.close()
    return made


async def forged(port: int) -> None:
    """A delivery of somebody who doesn't know the secret, and tries a guess or two in its fields."""
    async with httpx2.AsyncClient() as client:
        headers = {"X-Hub-Signature-256": "sha256=" + "0" * 64, "X-GitHub-Event": "issues", "X-GitHub-Delivery": HOOK}
        answer = await client.post(f"http://127.0.0.1:{port}/webhooks/github", content=b"{}", headers=headers)
    assert answer.status_code == 401


def check_logs(service: Service, request: str) -> None:
    assert service.process.returncode == 0
    for line in service.lines:
        assert {"time", "level", "event", "message"} <= line.keys()
    life = [one["event"] for one in service.lines if one.get("request") == request]
    assert sorted(set(life) & {"delivery", "request queued", "request started", "request ended"}) == [
        "delivery", "request ended", "request queued", "request started",
    ]  # fmt: skip
    (ended,) = service.events("request ended")
    assert (ended["repository"], ended["end"], ended["outcome"]) == (SLUG, "pull request", "verified")
    assert (ended["trace"], ended["turns"]) == (trace_id(request), 6)
    assert ended["pull"] > 0
    assert [one["outcome"] for one in service.events("delivery") if one["outcome"] == "unsigned"] == ["unsigned"]
    (died,) = service.events("process")
    assert "the web process ended with -9" in died["message"]
    assert not service.events("crashed")
    assert not service.events("telemetry lost")


def check_metrics(web: Samples, work: Samples) -> None:
    assert of(web, "patchwright_deliveries_total", event="issues", result="new") == 1
    assert of(web, "patchwright_requests", kind="fix", state="done") == 1
    assert of(web, "patchwright_pull_requests_total", change="opened") == 1
    (run,) = [(labels, value) for (name, labels), value in web.items() if name == "patchwright_runs_total"]
    assert (dict(run[0])["outcome"], run[1]) == ("verified", 1)
    model = dict(run[0])["model"]
    assert of(web, "patchwright_turns_total", model=model) == 6
    assert of(web, "patchwright_prompt_tokens_total", model=model) > 1000
    assert of(web, "patchwright_run_seconds_count") == 1
    assert sum(value for (name, _), value in web.items() if name == "patchwright_workers") == 1
    forge = {dict(labels)["route"] for name, labels in work if name == "patchwright_forge_requests_total"}
    assert "/repos/{owner}/{repo}/issues/{}/comments" in forge
    assert not [one for one in forge if "octo" in one or "calc" in one]
    assert of(work, "patchwright_requests_worked_total", end="pull request") == 1
    assert of(work, "patchwright_requests_at_work") == 0
    assert of(work, "patchwright_forge_rate_limit_remaining") > 0


def check_spans(collector: Receiver, request: str) -> None:
    ours = [span for span in collector.spans if span.trace == trace_id(request)]
    assert len({span.id for span in ours}) == len(ours)
    (hook,) = collector.named("webhook issues")
    (dispatch,), (work,) = collector.named("dispatch"), collector.named("work fix")
    (run,) = collector.named("invoke_agent patchwright")
    assert (hook.id, hook.parent, hook.service) == (span_id("webhook", request), "", "patchwright-web")
    assert (dispatch.parent, work.parent, run.parent) == (hook.id, dispatch.id, work.id)
    assert work.service == "patchwright-work"
    turns = [span for span in collector.below(run) if span.attributes.get(genai.OPERATION_NAME) == "chat"]
    tools = [span for span in collector.below(run) if span.attributes.get(genai.OPERATION_NAME) == "execute_tool"]
    assert (len(turns), len(tools)) == (6, 6)
    assert {span.attributes[genai.TOOL_NAME] for span in tools} == {"bash", "str_replace_editor", "submit"}
    assert all(span.attributes[genai.USAGE_INPUT] > 0 for span in turns)
    (verification,) = collector.named("verification")
    assert verification.attributes["patchwright.verified"] is True
    assert collector.below(verification)
    assert any(span.attributes.get("url.template") for span in collector.below(work))
    assert all(run.started <= span.started <= span.ended <= run.ended for span in (*turns, *tools))
    others = {span.name for span in collector.spans} - {span.name for span in ours}
    assert others <= {"webhook installation"}, others


def check_secrets(
    service: Service, secrets: list[str], collector: Receiver, answers: str, model: str, folder: Path
) -> None:
    """In nothing that was written, sent or answered; what the tests' own forge and model keep is theirs."""
    places = {"logs": service.out.read_bytes(), "answers": answers.encode()}
    places |= {f"spans {number}": body for number, body in enumerate(collector.bodies)}
    places["stdout"] = (folder / "service.out").read_bytes()
    files = [file for file in service.home.rglob("*") if file.is_file() and not file.is_symlink()]
    assert any(file.name == "events.jsonl" for file in files)
    assert any(file.name == "service.sqlite" for file in files)
    places |= {str(file): file.read_bytes() for file in files}
    for name, content in places.items():
        for secret in secrets:
            for form in forms(secret):
                assert form not in content, f"{secret[:12]}... is in {name}"
        for shape in (b"ghs_", b"Bearer ", b"BEGIN RSA PRIVATE KEY", b"BEGIN PRIVATE KEY"):
            assert shape not in content, f"{shape!r} is in {name}"
