"""What users write for a model, read in one place: every spelling of a server is the same server."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.admission import Need
from runtime.admission_ledger import FileRegister
from runtime.models.base import ModelRefused
from runtime.models.connect import connect
from runtime.models.target import Target, line_of, read_target

SPELLINGS = [
    "http://gpu:30000",
    "http://gpu:30000/",
    "HTTP://GPU:30000/v1/",
    "http://gpu:30000/generate",
    "http://gpu:30000/v1/completions",
    "http://gpu:30000/completion",
    "http://gpu:30000/v1/chat/completions#model",
    "sglang:gpu:30000",
    "ktransformers:http://gpu:30000",
    "vllm:gpu:30000/v1",
    "chat:http://Gpu:30000#model",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_all_spellings_of_a_server_have_one_address(spelling: str) -> None:
    assert read_target(spelling).address == "http://gpu:30000"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("chat:http://h/api/v1#a/b", Target("chat", "http://h/api", "a/b")),
        ("https://h:443/#m", Target("url", "https://h", "m")),
        ("http://[::1]:80", Target("url", "http://[::1]")),
        ("llamacpp:[::1]:8080", Target("llamacpp", "http://[::1]:8080")),
        ("script:a/b.json", Target("script", "a/b.json")),
        ("embedded:Qwen/Qwen3.5-0.8B", Target("embedded", "Qwen/Qwen3.5-0.8B")),
        ("openrouter:qwen/qwen3.6-plus", Target("openrouter", "qwen/qwen3.6-plus")),
    ],
)
def test_what_a_target_names(target: str, expected: Target) -> None:
    assert read_target(target) == expected


def test_a_folder_is_a_checkpoint(tmp_path: Path) -> None:
    assert read_target(str(tmp_path)) == Target("embedded", str(tmp_path))
    assert read_target(str(tmp_path)).address is None


@pytest.mark.parametrize("other", ["http://localhost:80", "http://[::1]/v1", "http://127.0.0.1/", "http://0.0.0.0"])
def test_two_spellings_are_one_line_of_admission(tmp_path: Path, other: str) -> None:
    first = FileRegister(tmp_path, "http://127.0.0.1:80")
    number = first.join(Need(10))
    assert [ticket.number for ticket in FileRegister(tmp_path, other).tickets()] == [number]
    assert FileRegister(tmp_path, "https://localhost").tickets() == []
    first.leave(number)


def test_other_servers_are_other_lines() -> None:
    assert len({line_of(url) for url in ("http://a:1", "http://b:1", "http://a:2", "http://a:1/x", "https://a")}) == 5
    assert line_of("http://gpu.") == line_of("http://GPU:80/v1")


@pytest.mark.parametrize("form", ["{}", "sglang:{}", "chat:{}#m", "ftp:{}"])
@pytest.mark.parametrize(
    "url", ["http://user:hunter2@127.0.0.1:1", "http://hunter2@h", "http://h:1/?key=hunter2", "http://h/v1?hunter2#m"]
)
async def test_secrets_in_a_url_are_refused_and_not_shown(form: str, url: str) -> None:
    with pytest.raises(ModelRefused) as caught:
        await connect(form.format(url))
    assert "hunter2" not in str(caught.value)
    if not form.startswith("ftp"):
        assert "a key goes into PATCHWRIGHT_API_KEY" in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        "http://",
        "http://.",
        "http://" + "a" * 300,
        "http://a..b",
        "http://[::1",
        "http://exa mple",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:abc",
        "sglang:/tmp",
        "vllm:.",
    ],
)
async def test_addresses_that_none_can_have(target: str) -> None:
    with pytest.raises(ModelRefused, match=r"can't be asked: .*Write http://HOST:PORT") as caught:
        await connect(target)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("target", ["x" * 5000, "a\0b"])
async def test_what_no_path_can_be(target: str) -> None:
    with pytest.raises(ModelRefused, match="names no model"):
        await connect(target)
