"""Files of the pages, what was vendored, and how values are written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from service.dashboard import static
from service.dashboard.frame import duration, moment, money, number, percent, short
from service.dashboard.static import FILES
from tests.service.dashboard.serving import Dashboard

pytestmark = pytest.mark.heavy
STATIC = Path(static.__file__).parent / "static"


def test_files_are_what_was_vendored() -> None:
    listed = json.loads((STATIC / "vendored.json").read_text())
    there = {path.relative_to(STATIC).as_posix() for path in (STATIC / "vendor").iterdir()}
    assert {one["file"] for one in listed} == there
    for one in listed:
        assert hashlib.sha256((STATIC / one["file"]).read_bytes()).hexdigest() == one["sha256"], one["file"]
    assert {one["name"] for one in listed if "LICENSE" in one["file"]} == {one["name"] for one in listed}


def test_files_have_types_and_tags(site: Dashboard) -> None:
    with site.client() as client:
        for name, file in FILES.items():
            answer = client.get(f"/static/{name}?v={file.tag}")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == file.kind
            assert "immutable" in answer.headers["cache-control"]
            again = client.get(f"/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert "immutable" not in again.headers["cache-control"]
        assert client.get("/static/app.css").headers["content-type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize(
    "name", ["../frame.py", "..%2fframe.py", "%2e%2e/frame.py", "/etc/passwd", "vendored.json", ""]
)
def test_nothing_else_is_a_file(site: Dashboard, name: str) -> None:
    assert site.client().get(f"/static/{name}").status_code == 404


def test_values_are_written_for_people() -> None:
    assert [duration(one) for one in (None, 0.4, 59, 61, 3600, 3725, 200_000)] == [
        "–", "0 s", "59 s", "1 min 1 s", "1 h", "1 h 2 min", "2 d",
    ]  # fmt: skip
    assert [short(one) for one in (None, 999, 1000, 1_234_567)] == ["–", "999", "1 k", "1.2 M"]
    assert (number(1_234_567), percent(0.615, 1), money(1.5)) == ("1,234,567", "61.5 %", "$1.50")
    assert moment("never") is None
    assert moment(1e30) is None
