"""What the model may look at, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.picture_files import gif, jpeg, png, webp
from tests.tools.conftest import caller
from tools.base import ToolContext
from tools.pictures import MOST_BYTES, MOST_PICTURES, NotAPicture, picture_of
from tools.view_image import NAME, ViewImage


@pytest.mark.parametrize(
    ("data", "media_type"),
    [(png(), "image/png"), (gif(), "image/gif"), (jpeg(), "image/jpeg"), (webp(), "image/webp")],
)
def test_a_picture_is_known_by_its_bytes(data: bytes, media_type: str) -> None:
    picture = picture_of(data)
    assert (picture.image.media_type, picture.width, picture.height) == (media_type, 64, 32)
    assert picture.image.data == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no picture of a kind"),
        (b"<svg xmlns='x'/>", "no picture of a kind"),
        (b"not a\x89PNG\r\n\x1a\n", "no picture of a kind"),
        (b"\x89PNG\r\n\x1a\n", "may be damaged"),
        (b"\xff\xd8\xff\xe0", "may be damaged"),
        (png(0, 5), "may be damaged"),
        (png(30_000, 30_000), "30000 x 30000 pixels"),
        (png(10_000, 20), "too long for its width"),
        (png(size=MOST_BYTES + 1), "more than 8 MiB"),
    ],
)
def test_what_is_none_or_too_much_is_said(data: bytes, why: str) -> None:
    with pytest.raises(NotAPicture, match=why):
        picture_of(data)


async def test_the_picture_is_kept_and_named_in_the_facts(context: ToolContext, workdir: Path) -> None:
    (workdir / "shots").mkdir()
    (workdir / "shots" / "wrong.txt").write_bytes(png(800, 600, 1234))
    observation = await caller(ViewImage(), context)(path="shots/wrong.txt")
    assert observation.text.endswith("shots/wrong.txt (PNG, 800 x 600 pixels, 1,234 bytes).")
    assert not observation.may_have_changed
    (shown,) = observation.data["images"]
    assert context.blobs.get(shown["blob"]) == png(800, 600, 1234)
    assert shown["media_type"] == "image/png"
    assert context.state[NAME] == {"pictures": 1, "bytes": 1234}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "`path` is missing"),
        ({"path": " "}, "`path` is empty"),
        ({"path": "gone.png"}, "gone.png"),
        ({"path": "."}, "Error: "),
        ({"path": "text.png"}, "is no picture"),
    ],
)
async def test_what_cannot_be_shown_fails_with_a_reason(
    context: ToolContext, workdir: Path, arguments: dict[str, str], words: str
) -> None:
    (workdir / "text.png").write_text("hello")
    observation = await caller(ViewImage(), context)(**arguments)
    assert (observation.failed, words in observation.text) == (True, True), observation.text
    assert "images" not in observation.data
    assert NAME not in context.state


async def test_a_run_shows_only_so_many(context: ToolContext, workdir: Path) -> None:
    (workdir / "one.png").write_bytes(png())
    look = caller(ViewImage(), context)
    results = [(await look(path="one.png")).failed for _ in range(MOST_PICTURES + 1)]
    assert results == [False] * MOST_PICTURES + [True]
    context.state[NAME] = {"pictures": 1, "bytes": 24 << 20}
    assert "24 MiB together" in (await look(path="one.png")).text
