"""Pictures of an issue and of a run: which links are followed, and what goes with each request."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from agent.events import EventLog, EventType
from agent.images import Shelf, body_of, part_of
from agent.issue_pictures import MOST_IN_ISSUE, illustrated, may_follow
from agent.opening import first_messages
from agent.runs import FileBlobs
from runtime import framing
from runtime.models.base import Image
from runtime.qwen_bpe import qwen_tokenizer
from tests.picture_files import gif, png

DATA_URI = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
UPLOAD = "https://github.com/user-attachments/assets/01234567-89ab-cdef-0123-456789abcdef"


async def never(url: str) -> bytes:
    raise AssertionError(f"{url} was asked")


async def test_pictures_of_an_issue_are_taken_out_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "two words.gif").write_bytes(gif())

    async def fetch(url: str) -> bytes:
        return {UPLOAD: png(5, 6)}[url]

    text = (
        f"It is wrong:\n![the menu]({DATA_URI})\nand ![image](shots/two%20words.gif 'x')\n"
        f'<img width="300" src="{UPLOAD}" alt="x"> end'
    )
    found = await illustrated(text, tmp_path, fetch)
    assert found.text == "It is wrong:\n[picture 1: the menu]\nand [picture 2]\n[picture 3] end"
    assert [picture.image.data for picture in found.pictures] == [png(), gif(), png(5, 6)]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("http://example.com/a.png", "not fetched from"),
        ("https://example.com/a.png", "not fetched from"),
        ("//example.com/a.png", "not fetched from"),
        ("file:///etc/passwd", "not fetched from"),
        ("http://github.com/user-attachments/assets/1", "not fetched from"),
        ("https://github.com.evil.example/user-attachments/assets/1", "not fetched from"),
        ("https://user-images.githubusercontent.com@evil.example/1.png", "not fetched from"),
        ("../secret.png", "lies outside"),
        ("/etc/passwd", "lies outside"),
        ("%2e%2e/secret.png", "lies outside"),
        ("link.png", "lies outside"),
        ("gone.png", "can't be read"),
        ("text.png", "is no picture"),
        ("data:image/png;base64,####", "no valid base64"),
        ("data:text/plain;base64,aGVsbG8=", "no picture in base64"),
        ("data:image/png;base64,aGVsbG8=", "is no picture"),
    ],
)
async def test_other_links_stay_in_the_text(tmp_path: Path, target: str, why: str) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    folder = tmp_path / "issue"
    folder.mkdir()
    (folder / "text.png").write_text("hello")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    found = await illustrated(f"See ![it]({target}).", folder, never)
    assert found.pictures == ()
    assert found.text.startswith(f"See [a picture that is not shown: {target}")
    assert why in found.text


async def test_an_issue_that_is_no_file_has_no_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png())
    assert (await illustrated("![a](a.png)", None, never)).pictures == ()


async def test_an_issue_shows_only_so_many() -> None:
    found = await illustrated(f"![x]({DATA_URI})\n" * (MOST_IN_ISSUE + 2), None, never)
    assert len(found.pictures) == MOST_IN_ISSUE
    assert found.text.count("as many as are shown") == 2
    assert "base64" not in found.text.replace("data:image/png;base64", "")


def test_where_uploads_may_lead() -> None:
    assert may_follow("https://private-user-images.githubusercontent.com/1/2.png?jwt=x")
    assert may_follow("https://objects.githubusercontent.com/x")
    assert may_follow("https://github-production-user-asset-6210df.s3.amazonaws.com/1/2.png?X-Amz-Signature=y")
    for url in (
        "https://evil.s3.amazonaws.com/x", "http://objects.githubusercontent.com/x", "https://169.254.169.254/latest",
        "https://githubusercontent.com.evil.example/x", "https://a.b.githubusercontent.com.evil.example/x",
    ):  # fmt: skip
        assert not may_follow(url)


async def test_text_only_prompts_are_what_they_were(tmp_path: Path) -> None:
    from agent import prompts

    issue = {"text": f"See ![it]({DATA_URI}).", "source": "the command line"}
    blobs = FileBlobs(tmp_path)
    blind = await first_messages(issue, workdir="/w", notes=("n",), blobs=blobs, pictures=False)
    assert blind[1]["content"] == prompts.task_prompt(issue["text"], workdir="/w", notes=("n",))
    plain = {"text": "No picture.", "source": "the command line"}
    seeing = await first_messages(plain, workdir="/w", notes=(), blobs=blobs, pictures=True)
    assert seeing[1]["content"] == prompts.task_prompt("No picture.", workdir="/w")


async def test_pictures_stand_behind_the_task_in_order(tmp_path: Path) -> None:
    issue = {"text": f"See ![it]({DATA_URI}).", "source": "the command line"}
    blobs = FileBlobs(tmp_path / "blobs")
    messages = await first_messages(issue, workdir="/w", notes=(), blobs=blobs, pictures=True)
    text, label, picture = messages[1]["content"]
    assert "See [picture 1: it]." in text["text"]
    assert (label["text"], picture["type"]) == ("\n\nPicture 1 of the issue:\n", "image")
    assert blobs.get(picture["blob"]) == png()
    ids = framing.prompt_ids(qwen_tokenizer(), messages)
    rendered = qwen_tokenizer().decode(ids)
    assert "Picture 1 of the issue:\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>" in rendered


def test_an_observation_with_a_picture_is_rendered_as_the_template_does() -> None:
    body = body_of("The picture <|image_pad|>.", {"images": [{"blob": "b", "media_type": "image/png"}]})
    tokenizer = qwen_tokenizer()
    ids = framing.observation_ids(tokenizer, [body, "plain"])
    text = tokenizer.decode(ids)
    assert text.startswith(
        "\n<|im_start|>user\n<tool_response>\n<|vision_start|><|image_pad|><|vision_end|>The picture <|image_pad|>."
        "\n</tool_response>\n<tool_response>\nplain\n</tool_response><|im_end|>\n"
    )
    assert ids.count(tokenizer.special("<|image_pad|>")) == 1  # the one in the text is only text
    assert body_of("plain", {}) == "plain"


def log_with(folder: Path, events: list[tuple[EventType, dict[str, Any]]]) -> EventLog:
    log = EventLog(folder / "events.jsonl")
    for kind, data in events:
        log.append(kind, **data)
    return log


def test_requests_carry_the_pictures_that_have_joined_the_transcript(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    names = [{"blob": blobs.put(png(n, n)), "media_type": "image/png"} for n in (1, 2, 3)]
    prompt = {"messages": [{"role": "user", "content": [part_of(names[0]), {"type": "text", "text": "x"}]}]}
    log = log_with(tmp_path, [(EventType.PROMPT, prompt)])
    shelf = Shelf(log, blobs)
    assert shelf.images() == (Image(png(1, 1), "image/png"),)
    log.append(EventType.OBSERVATION, facts={"images": names[1:2]})
    assert len(shelf.images()) == 1  # not in the ids yet
    log.append(EventType.OBSERVATION, facts={"images": names[2:]})
    log.append(EventType.OBSERVED, nudge=None)
    assert [image.data for image in shelf.images()] == [png(1, 1), png(2, 2), png(3, 3)]
    assert shelf.images() is shelf.images()
    assert Shelf(log, blobs).images() == shelf.images()  # as after a resume
    log.close()
