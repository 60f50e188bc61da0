"""A web process with a seeded database, one for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from tests.service.processes import Seeded, Web, seed, web_process

OFTEN = {"PATCHWRIGHT_RATE_REPOSITORY": "1000000", "PATCHWRIGHT_RATE_SENDER": "1000000"}
HIDDEN = "what-lies-beside-the-runs"


class There(NamedTuple):
    web: Web
    seeded: Seeded


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    folder: Path = tmp_path_factory.mktemp("service")
    seeded = seed(folder, f"sqlite:///{folder}/service.sqlite")
    for place in (folder, seeded.home, seeded.home / "service", seeded.home / "service" / "runs"):
        (place / "hidden").write_text(HIDDEN)
    with web_process(folder, seeded.database, **OFTEN) as web:
        yield There(web, seeded)
    said = web.said.read_text()
    assert "Traceback" not in said, said
