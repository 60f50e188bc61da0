"""What a repository may say about itself, in `.patchwright.toml` of the base commit: a safe subset of the settings.

    [sandbox]
    image = "my/image:tag"        # or: dockerfile = "path/Dockerfile"
    setup = "pip install -e ."    # run once when the image is made
    packages = ["libpq-dev"]      # of the distribution, besides those that are detected
    workdir = "/workspace"        # where the checkout lies in the sandbox
    network = "registries"        # a wish: it is shown, and granted by `--network` only
    [test]
    command = "pytest -q"         # fails before the fix or stays green
    timeout = 600                 # seconds
    [bot]                         # of the default branch only
    minimum = "write"             # permission that it takes to ask for work
    allow = [1234567]             # ids of accounts that may ask without it

Nothing in it can reach the host, the network during a run, the model or the limits. Left out: the user's own
settings, which are flags and environment variables.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent.ends import InputProblem
from agent.git import GitError, git
from sandbox.policy import check_workdir

CONFIG_FILE = ".patchwright.toml"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SandboxSection(_Strict):
    """Where the repository's commands can run."""

    image: str | None = None
    dockerfile: str | None = None
    setup: str | None = None
    packages: list[str] = []
    network: Literal["none", "registries", "full"] | None = None  # a wish
    workdir: str = Field(default="/workspace", pattern=r"^(/[A-Za-z0-9._-]+)+$", max_length=200)

    @field_validator("workdir")
    @classmethod
    def _no_way_out(cls, workdir: str) -> str:
        check_workdir(workdir)
        return workdir


class TestSection(_Strict):
    """How the repository is tested."""

    command: str | None = None
    timeout: float = Field(default=900.0, gt=0, le=7200, strict=False)


class BotSection(_Strict):
    """Who may ask the bot for work. Accounts are ids: logins change hands."""

    enabled: bool = True
    minimum: Literal["read", "triage", "write", "maintain", "admin"] = "write"
    allow: list[int] = Field(default=[], max_length=1000)  # people who may ask whatever their permission is
    bots: list[int] = Field(default=[], max_length=100)  # bots that may ask, if their permission suffices
    follow_checks: int = Field(default=3, ge=0, le=10)  # times that failing checks of one pull request are followed up


class RepositoryConfig(_Strict):
    sandbox: SandboxSection = SandboxSection()
    test: TestSection = TestSection()
    bot: BotSection = BotSection()


def parse_config(text: str) -> RepositoryConfig:
    """Raises InputProblem that names the setting."""
    try:
        return RepositoryConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputProblem(f"{CONFIG_FILE} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputProblem(f"{CONFIG_FILE}: {where}: {first['msg']} (see docs/configuration.md)") from None


async def read_config(bare: Path, commit: str) -> RepositoryConfig:
    """The settings of a commit; the defaults when it has none."""
    try:
        text = await git("cat-file", "blob", f"{commit}:{CONFIG_FILE}", at=bare)
    except GitError:
        return RepositoryConfig()
    return parse_config(text.decode("utf-8", "replace"))
