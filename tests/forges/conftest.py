"""A fake forge with one repository, an App that is installed there, and the client that speaks as that App."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.forges.base import Forge, Secret
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.core import FakeApp
from agent.forges.fake.server import fake_forge
from agent.forges.github.auth import AppAuth
from agent.forges.github.client import Pace
from agent.forges.github.forge import open_github

SLUG = "octo/demo"
QUICK = Pace(between_writes=0.0, failure=0.01, unexplained=0.05, patience=5.0)
FILES = {"calc.py": "def add(a, b):\n    return a - b\n", "README.md": "# Demo\n", ".patchwright.toml": "x = 1\n"}


@dataclass(frozen=True)
class Scene:
    """`forge` is GitHub's side, `bot` ours."""

    forge: FakeForge
    app: FakeApp
    bot: Forge
    folder: Path

    def as_app(self, key: str | None = None, pace: Pace = QUICK) -> Forge:
        return open_github(AppAuth(str(self.app.id), [Secret(key or self.app.key)]), self.forge.api, pace)


@pytest.fixture(scope="session")
def app_key() -> str:
    """An App's private key, as PEM. Making one takes long, so that there is one for all."""
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


@pytest.fixture
async def scene(tmp_path: Path, app_key: str) -> AsyncIterator[Scene]:
    async with fake_forge(tmp_path / "forge") as forge:
        await forge.add_repository(SLUG, FILES)
        forge.grant(SLUG, "mia", "maintain")
        app = await forge.add_app("patchwright", key=app_key)
        forge.install(app.id, SLUG)
        bot = open_github(AppAuth(str(app.id), [Secret(app.key)]), forge.api, QUICK)
        try:
            yield Scene(forge, app, bot, tmp_path)
        finally:
            await bot.close()
