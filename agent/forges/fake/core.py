"""The fake forge itself: its people, repositories, Apps, tokens, clock, and the failures it is told to have.

Left out: what people do there (`acts`), and HTTP (`server`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.forges.fake import access
from agent.forges.fake.access import INSTALLATION_SECONDS, Refusal, not_found
from agent.forges.fake.faults import Faults
from agent.forges.fake.hooks import Delivery, Hooks
from agent.forges.fake.records import Records
from agent.forges.fake.state import Account, App, Installation, Repo, RepoHook, Thread, load, save
from agent.git import GitError, git, git_line

PERMISSIONS = {
    "metadata": "read",
    "contents": "write",
    "issues": "write",
    "pull_requests": "write",
    "checks": "read",
    "actions": "read",
}
ACTIONS_BOT = (41898282, "github-actions[bot]")
NOREPLY = "users.noreply.127.0.0.1"
_SAVE_SECONDS = 0.2
_TOLD_ANYWAY = frozenset({"ping", "installation", "installation_repositories"})


@dataclass(frozen=True, slots=True)
class FakeApp:
    """What a maintainer has after registering an App. `key`: its private key, PEM."""

    id: int
    client_id: str
    slug: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was answered."""

    method: str
    path: str
    status: int


class Core(Faults):
    """State and set-up. `url` is the forge's address once it is served."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.world = load(folder)
        self.hooks = Hooks()
        self.url = ""
        self.asked: deque[Asked] = deque(maxlen=10_000)
        self.git_lock = asyncio.Lock()
        self.codes: dict[str, tuple[FakeApp, str, float]] = {}  # of new Apps: with their webhook secret, until when
        self.moved: dict[str, str] = {}  # old slug -> where its requests are sent on
        self._saving: asyncio.Task[None] | None = None
        if not self.world.accounts:
            self.world.accounts.append(Account(*ACTIONS_BOT, bot=True))

    # -- as others see it

    @property
    def api(self) -> str:
        return f"{self.url}/api/v3"

    @property
    def records(self) -> Records:
        return Records(self.world, self.url)

    def now(self) -> float:
        return access.now(self.world)

    def stamp(self) -> str:
        return access.stamp(self.now())

    def later(self, seconds: float) -> None:
        """Set the forge's clock ahead."""
        self.world.offset += seconds

    def repo(self, slug: str) -> Repo:
        for one in self.world.repos:
            if one.slug.lower() == slug.lower():
                return one
        raise not_found()

    def thread(self, repo: Repo, number: int) -> Thread:
        for one in repo.threads:
            if one.number == number:
                return one
        raise not_found()

    def bare(self, repo: Repo) -> Path:
        return self.folder / "git" / repo.owner / f"{repo.name}.git"

    async def sha(self, repo: Repo, revision: str) -> str | None:
        """The commit that a branch, tag or commit id names."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            with contextlib.suppress(GitError):
                return await git_line(
                    "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", at=self.bare(repo)
                )
        return None

    def changed(self) -> None:
        """Have the state saved soon."""
        if self._saving is None or self._saving.done():
            self._saving = asyncio.get_running_loop().create_task(self._save_soon())

    async def _save_soon(self) -> None:
        await asyncio.sleep(_SAVE_SECONDS)
        save(self.folder, self.world)

    async def close(self) -> None:
        await self.hooks.close()
        if self._saving is not None:
            self._saving.cancel()
        save(self.folder, self.world)

    # -- people, repositories, tokens

    def add_person(self, login: str, *, bot: bool = False) -> Account:
        with contextlib.suppress(Refusal):
            return access.account(self.world, login)
        one = Account(self.world.new_id(), login, bot)
        self.world.accounts.append(one)
        return one

    def rename_person(self, login: str, new: str) -> None:
        access.account(self.world, login).login = new

    async def add_repository(
        self,
        slug: str,
        files: Mapping[str, str] | None = None,
        *,
        source: Path | None = None,
        private: bool = False,
        drafts: bool = True,
    ) -> Repo:
        """A repository with one commit of `files`, or with the branches of a local repository."""
        owner, name = slug.split("/")
        self.add_person(owner)
        repo = Repo(self.world.new_id(), owner, name, private, "main", self.stamp(), drafts=drafts)
        bare = self.bare(repo)
        bare.mkdir(parents=True)
        await git("init", "-q", "--bare", "--initial-branch=main", str(bare))
        self.world.repos.append(repo)
        if source is not None:
            await git("fetch", "-q", str(source.resolve()), "+refs/heads/*:refs/heads/*", at=bare)
            repo.default_branch = (await git_line("symbolic-ref", "--short", "HEAD", at=source, foreign=True)) or "main"
            await git("symbolic-ref", "HEAD", f"refs/heads/{repo.default_branch}", at=bare)
        if files is not None:
            await self.write(repo, "main", files, "First commit", access.account(self.world, owner))
        self.changed()
        return repo

    def rename_repository(self, slug: str, name: str) -> Repo:
        """Give a repository another name; requests to the old one are sent on, as GitHub does."""
        return self._move(slug, self.repo(slug).owner, name)

    def transfer_repository(self, slug: str, owner: str) -> Repo:
        """Give a repository to somebody else. Apps that aren't installed there by their owner lose it."""
        self.add_person(owner)
        repo = self._move(slug, owner, self.repo(slug).name)
        for app in self.world.apps:
            for one in app.installations:
                if one.owner != owner and repo.id in one.repositories:
                    one.repositories.remove(repo.id)
        return repo

    def _move(self, slug: str, owner: str, name: str) -> Repo:
        repo = self.repo(slug)
        old, before = self.bare(repo), repo.slug
        repo.owner, repo.name = owner, name
        self.bare(repo).parent.mkdir(exist_ok=True)
        old.rename(self.bare(repo))
        for part in (one.pull for other in self.world.repos for one in other.threads):
            if part is not None and part.head_repository == before:
                part.head_repository = repo.slug
        self.moved[slug.lower()] = f"{self.api}/repos/{repo.slug}"
        self.changed()
        return repo

    async def fork(self, slug: str, login: str, name: str | None = None) -> Repo:
        """A copy of a repository that belongs to somebody else, or has another name."""
        parent = self.repo(slug)
        self.add_person(login)
        repo = Repo(
            self.world.new_id(), login, name or parent.name, parent.private, parent.default_branch, self.stamp(),
            parent=slug,
        )  # fmt: skip
        await asyncio.to_thread(shutil.copytree, self.bare(parent), self.bare(repo))
        self.world.repos.append(repo)
        return repo

    async def write(
        self, repo: Repo, branch: str, files: Mapping[str, str | None], message: str, who: Account
    ) -> tuple[str | None, str]:
        """One commit on a branch, which is made from the default branch if it isn't there; the commits before and
        after. None as a file's text deletes it."""
        before = await self.sha(repo, branch) if files else None
        start = before or await self.sha(repo, repo.default_branch)
        lines: list[bytes] = [
            f"commit refs/heads/{branch}\n".encode(),
            f"committer {who.login} <{who.id}+{who.login}@{NOREPLY}> {int(self.now())} +0000\n"
            f"data {len(message.encode())}\n{message}\n".encode(),
            f"from {start}\n".encode() if start else b"",
        ]
        for path, text in files.items():
            data = (text or "").encode()
            lines.append(f"D {path}\n".encode() if text is None else b"")
            lines.append(
                f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n" if text is not None else b""
            )
        await git("fast-import", "--quiet", "--force", at=self.bare(repo), stdin=b"".join(lines))
        after = await self.sha(repo, branch)
        if after is None:
            raise AssertionError(f"no commit on {branch} after an import")
        return before, after

    def grant(self, slug: str, login: str, role: str) -> None:
        """Give a person a role: none, read, triage, write, maintain or admin."""
        if role not in access.ROLES:
            raise ValueError(f"{role!r} is no role: one of {', '.join(access.ROLES)}")
        self.repo(slug).roles[self.add_person(login).id] = role
        self.changed()

    def user_token(self, login: str, slug: str | None = None, seconds: float | None = None) -> str:
        """A person's token; for one repository, if given."""
        repositories = [self.repo(slug).id] if slug else None
        token = access.new_token(self.world, self.add_person(login), "user", repositories, None, seconds)
        self.changed()
        return token

    def workflow_token(self, slug: str, permissions: Mapping[str, str] | None = None) -> str:
        """What a workflow of that repository gets as GITHUB_TOKEN."""
        bot = access.account_by_id(self.world, ACTIONS_BOT[0])
        granted = {"metadata": "read", **(permissions or {})}
        return access.new_token(self.world, bot, "workflow", [self.repo(slug).id], granted, 6 * 3600.0)

    def revoke(self, token: str) -> None:
        from agent.forges.fake.state import digest

        self.world.tokens.pop(digest(token), None)

    # -- Apps

    async def add_app(
        self,
        slug: str,
        *,
        hook: str | None = None,
        secret: str = "",
        permissions: Mapping[str, str] | None = None,
        key: str | None = None,
        events: Sequence[str] | None = None,
    ) -> FakeApp:
        """Register an App. `hook`: where its webhooks go; `key`: its private key (PEM), a new one by default;
        `events`: those that it hears of, all by default."""
        account = self.add_person(f"{slug}[bot]", bot=True)
        app = App(
            self.world.new_id(), slug, f"Iv23li{secrets.token_hex(7)}", account.id, [],
            dict(PERMISSIONS if permissions is None else permissions), self.stamp(), hook=hook, secret=secret,
            events=None if events is None else list(events),
        )  # fmt: skip
        self.world.apps.append(app)
        return FakeApp(app.id, app.client_id, slug, await self.add_key(app.id, key))

    async def add_key(self, app: int, key: str | None = None) -> str:
        """One more private key of an App, as PEM."""
        private, public = await asyncio.to_thread(_key_pair, key)
        self.app(app).keys.append(public)
        self.changed()
        return private

    def drop_key(self, app: int, index: int = 0) -> None:
        """Take a key of an App away, the oldest by default."""
        del self.app(app).keys[index]
        self.changed()

    def app(self, number: int) -> App:
        for one in self.world.apps:
            if one.id == number:
                return one
        raise not_found()

    def install(self, app: int, *slugs: str) -> Installation:
        """Install an App on repositories of one owner. Sends `installation`, or `installation_repositories`."""
        repos = [self.repo(slug) for slug in slugs]
        found = self.app(app)
        one = next((old for old in found.installations if old.owner == repos[0].owner), None)
        event = "installation_repositories" if one else "installation"
        if one is None:
            one = Installation(self.world.new_id(), repos[0].owner, [])
            found.installations.append(one)
        one.repositories += [repo.id for repo in repos if repo.id not in one.repositories]
        key = "repositories" if event == "installation" else "repositories_added"
        self._about_installation(found, one, event, "created" if event == "installation" else "added", {key: repos})
        return one

    def uninstall(self, app: int, owner: str) -> None:
        found = self.app(app)
        one = next(old for old in found.installations if old.owner == owner)
        found.installations.remove(one)
        repos = [repo for repo in self.world.repos if repo.id in one.repositories]
        self._about_installation(found, one, "installation", "deleted", {"repositories": repos})

    def _about_installation(
        self, app: App, one: Installation, event: str, action: str, repos: Mapping[str, list[Repo]]
    ) -> None:
        owner = access.account(self.world, one.owner)
        payload: dict[str, Any] = {
            "action": action,
            "installation": self.records.installation(app, one),
            "sender": self.records.user(owner),
            **{
                key: [
                    {"id": repo.id, "name": repo.name, "full_name": repo.slug, "private": repo.private} for repo in some
                ]
                for key, some in repos.items()
            },
            **({"repository_selection": "selected", "repositories_removed": []} if event != "installation" else {}),
        }
        self._send(app, event, payload)

    def _send(self, app: App, event: str, payload: dict[str, Any]) -> None:
        if app.hook and (app.events is None or event in app.events or event in _TOLD_ANYWAY):
            self.hooks.send(app.hook, app.secret, event, payload, ("integration", app.id))

    def tell(self, repo: Repo, event: str, action: str | None, sender: Account, objects: Mapping[str, Any]) -> None:
        """Send an event of a repository to its own webhooks, and to every App that is installed there."""
        self.changed()
        payload = {**({"action": action} if action else {}), **objects, "repository": self.records.repository(repo),
                   "sender": self.records.user(sender)}  # fmt: skip
        for hook in repo.hooks:
            if event in hook.events:
                self.hooks.send(hook.url, hook.secret, event, payload, ("repository", repo.id))
        for app in self.world.apps:
            for one in app.installations:
                if repo.id in one.repositories:
                    self._send(app, event, {**payload, "installation": {"id": one.id, "node_id": f"I_{one.id}"}})

    def add_hook(self, slug: str, url: str, secret: str, events: Sequence[str]) -> None:
        """A webhook of one repository."""
        self.repo(slug).hooks.append(RepoHook(url, secret, list(events)))
        self.changed()

    def ping(self, app: int) -> None:
        found = self.app(app)
        self._send(found, "ping", {"zen": "Anything added dilutes everything else.", "hook_id": 1, "hook": {
            "type": "App", "id": 1, "active": True, "events": ["*"], "app_id": found.id}})  # fmt: skip

    def redeliver_failed(self) -> int:
        """Send what failed once more, as somebody may have GitHub do; how many."""
        failed = self.hooks.failed()
        for one in failed:
            self.hooks.redeliver(one)
        return len(failed)

    @property
    def deliveries(self) -> list[Delivery]:
        return self.hooks.sent

    def installation_token(
        self, app: App, one: Installation, names: list[str] | None, ids: list[int] | None, permissions: dict[str, str]
    ) -> tuple[str, list[Repo]]:
        """A token of an installation, for some of its repositories by name or id, or for all."""
        repos = [repo for repo in self.world.repos if repo.id in one.repositories]
        if names is not None or ids is not None:
            wanted = {*(name.lower() for name in names or []), *(ids or [])}
            chosen = [repo for repo in repos if {repo.name.lower(), repo.id} & wanted]
            if len(chosen) != len(wanted):
                raise Refusal(422, "There is at least one repository that does not exist or is not accessible to the "
                                   "parent installation.")  # fmt: skip
            repos = chosen
        account = access.account_by_id(self.world, app.account)
        token = access.new_token(
            self.world, account, "installation", [repo.id for repo in repos], dict(permissions),
            INSTALLATION_SECONDS,
        )  # fmt: skip
        return token, repos


def _key_pair(pem: str | None) -> tuple[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = serialization.load_pem_private_key(pem.encode(), None) if pem else rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()
