"""Whole runs with pictures: an issue's screenshot, a picture of the repository, and a resume between them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.picture_files import gif, png
from tests.runs.harness import BUGGY, FIX, Place, call, fixing_turns, served

pytestmark = pytest.mark.heavy

SEES = {"has_image_understanding": True}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.make_repo({**BUGGY, "docs/plot.gif": gif(300, 200)})
    folder = tmp_path / "issues"
    folder.mkdir()
    (folder / "shot.png").write_bytes(png(640, 480))
    (folder / "issue.md").write_text("mean() is too small\n\nLook: ![what I see](shot.png)\n")
    return place


def issue(place: Place) -> str:
    return str(place.folder / "issues" / "issue.md")


def sent(url: str) -> bytes:
    head, _, data = url.partition(",")
    assert head.startswith("data:image/")
    return base64.b64decode(data)


def test_a_model_that_sees_gets_the_pictures_in_the_order_of_their_places(place: Place) -> None:
    turns = [call("view_image", path="docs/plot.gif"), *fixing_turns()]
    with served(turns, info=SEES) as model:
        arguments = ["fix", str(place.repo), issue(place), "--model", model.url, "--sandbox", "none", "--json"]
        first = place.agent(*arguments, "--max-steps", "2")
        assert first.code == 5, first.err + first.out[-2000:]
        done = place.agent("resume", "last", "--max-steps", "20", "--json")
        requests = list(model.server.requests)
        pad = model.server.engine.tokenizer.special("<|image_pad|>")
    assert done.code == 0, done.err + done.out[-3000:]
    assert place.patch().endswith(FIX)
    shown = [[sent(url) for url in request.body.get("image_data") or ()] for request in requests]
    assert shown == [[png(640, 480)], *[[png(640, 480), gif(300, 200)]] * 6]
    assert [list(request.prompt_ids).count(pad) for request in requests] == [1, *[2] * 6]
    (prompt,) = first.of_type("prompt")
    assert [spec["function"]["name"] for spec in prompt["tools"]][-2:] == ["view_image", "submit"]
    assert "[picture 1: what I see]" in json.dumps(prompt["messages"])


def test_a_model_that_does_not_see_is_offered_nothing(place: Place) -> None:
    with served(fixing_turns()) as model:
        arguments = ["fix", str(place.repo), issue(place), "--model", model.url, "--sandbox", "none", "--json"]
        done = place.agent(*arguments)
        assert all("image_data" not in request.body for request in model.server.requests)
    assert done.code == 0, done.err
    (prompt,) = done.of_type("prompt")
    assert [spec["function"]["name"] for spec in prompt["tools"]] == ["bash", "str_replace_editor", "search", "submit"]
    assert "![what I see](shot.png)" in prompt["messages"][1]["content"]


def test_a_run_with_pictures_needs_a_model_that_sees_to_go_on(place: Place) -> None:
    turns = fixing_turns()
    with served(turns, info=SEES) as model, served(turns) as blind:
        arguments = ["fix", str(place.repo), issue(place), "--model", model.url, "--sandbox", "none", "--json"]
        assert place.agent(*arguments, "--max-steps", "1").code == 5
        refused = place.agent("resume", "last", "--max-steps", "20", "--model", blind.url, "--json")
        assert refused.code == 7, refused.err + refused.out[-2000:]
        assert "resume it with a model that sees" in refused.of_type("run_ended")[0]["message"]
        assert place.agent("resume", "last", "--model", model.url, "--json").code == 0
