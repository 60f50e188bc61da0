"""What people (and the bot, through the API) do on the fake forge, each with the webhooks that GitHub would send.

Every act names the login that does it. Ids of comments, reviews and checks come back, to be acted on further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.forges.fake import access, records
from agent.forges.fake.access import Refusal, invalid, not_found
from agent.forges.fake.core import Core
from agent.forges.fake.state import CheckRun, Note, PullPart, Reaction, Remark, Repo, Review, Thread
from agent.git import GitError, git, git_line

MAX_BODY = 65_536
CONTENTS = ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")


class FakeForge(Core):
    """The fake forge: `Core`, and what is done there."""

    # -- issues

    async def open_issue(self, slug: str, login: str, title: str, body: str = "", labels: Sequence[str] = ()) -> int:
        """The new issue's number."""
        repo, who = self.repo(slug), self.add_person(login)
        _fits("Issue", body)
        at = self.stamp()
        thread = Thread(self.world.new_id(), _next(repo), title, body, who.id, at, at, labels=list(labels))
        repo.threads.append(thread)
        self._about(repo, thread, "opened", login)
        for name in labels:
            self._about(repo, thread, "labeled", login, label=records.label(name))
        return thread.number

    async def edit_issue(self, slug: str, number: int, login: str, body: str) -> None:
        repo = self.repo(slug)
        thread = self.thread(repo, number)
        changes = {"body": {"from": thread.body}}
        thread.body = body
        self._about(repo, thread, "edited", login, changes=changes)

    async def label(self, slug: str, number: int, login: str, name: str) -> None:
        repo = self.repo(slug)
        thread = self.thread(repo, number)
        if name not in thread.labels:
            thread.labels.append(name)
        self._about(repo, thread, "labeled", login, label=records.label(name))

    async def unlabel(self, slug: str, number: int, login: str, name: str) -> None:
        repo = self.repo(slug)
        thread = self.thread(repo, number)
        thread.labels.remove(name)
        self._about(repo, thread, "unlabeled", login, label=records.label(name))

    async def assign(self, slug: str, number: int, login: str, assignee: str) -> None:
        repo = self.repo(slug)
        thread = self.thread(repo, number)
        one = access.account(self.world, assignee)
        thread.assignees = [*dict.fromkeys([*thread.assignees, one.id])]
        self._about(repo, thread, "assigned", login, assignee=self.records.user(one))

    async def close_thread(self, slug: str, number: int, login: str, *, merged: bool = False) -> None:
        """Close an issue or a pull request."""
        repo = self.repo(slug)
        thread = self.thread(repo, number)
        thread.closed_at = self.stamp()
        if thread.pull is not None and merged:
            thread.pull.merged_at = thread.closed_at
        await self._about_any(repo, thread, "closed", login)

    async def reopen(self, slug: str, number: int, login: str) -> None:
        repo = self.repo(slug)
        thread = self.thread(repo, number)
        thread.closed_at = None
        await self._about_any(repo, thread, "reopened", login)

    # -- comments

    async def comment(self, slug: str, number: int, login: str, body: str) -> Note:
        repo, who = self.repo(slug), self.add_person(login)
        thread = self.thread(repo, number)
        _fits("IssueComment", body)
        at = self.stamp()
        note = Note(self.world.new_id(), number, body, who.id, at, at)
        repo.notes.append(note)
        thread.updated_at = at
        self._about_note(repo, note, "created", login)
        return note

    async def edit_comment(self, slug: str, comment: int, login: str, body: str) -> Note:
        repo = self.repo(slug)
        note = self.note(repo, comment)
        _fits("IssueComment", body)
        before, note.body, note.updated_at = note.body, body, self.stamp()
        self._about_note(repo, note, "edited", login, changes={"body": {"from": before}})
        return note

    async def delete_comment(self, slug: str, comment: int, login: str) -> None:
        repo = self.repo(slug)
        note = self.note(repo, comment)
        self._about_note(repo, note, "deleted", login)
        repo.notes.remove(note)

    async def react(self, slug: str, kind: str, target: int, login: str, content: str) -> tuple[Reaction, bool]:
        """The reaction, and whether it is new. There are no webhooks for reactions."""
        if content not in CONTENTS:
            raise invalid("Reaction", "content", "invalid")
        repo, who = self.repo(slug), self.add_person(login)
        for old in repo.reactions:
            if (old.kind, old.target, old.author, old.content) == (kind, target, who.id, content):
                return old, False
        new = Reaction(self.world.new_id(), kind, target, who.id, content, self.stamp())
        repo.reactions.append(new)
        self.changed()
        return new, True

    def note(self, repo: Repo, comment: int) -> Note:
        for one in repo.notes:
            if one.id == comment:
                return one
        raise not_found()

    # -- pull requests

    async def open_pull(
        self, slug: str, login: str, head: str, base: str, title: str, body: str = "", *, draft: bool = False
    ) -> int:
        """The new pull request's number. `head`: a branch; `owner:branch` or `owner/name:branch` of a fork."""
        repo, who = self.repo(slug), self.add_person(login)
        owner, _, branch = head.rpartition(":")
        source = self.repo(owner if "/" in owner else f"{owner}/{repo.name}") if owner else repo
        sha, base_sha = await self.sha(source, branch), await self.sha(repo, base)
        if sha is None or base_sha is None:
            raise invalid("PullRequest", "head" if sha is None else "base", "invalid")
        same = f"{source.owner}:{branch}"
        if any(one.pull and not one.closed_at and one.pull.head_repository == source.slug and one.pull.head == branch
               and one.pull.base == base for one in repo.threads):  # fmt: skip
            raise _no_pull(f"A pull request already exists for {same}.")
        if draft and not repo.drafts:
            raise Refusal(422, "Draft pull requests are not supported in this repository.")
        if source is repo and await _count(self.bare(repo), base_sha, sha) == 0:
            raise _no_pull(f"No commits between {base} and {branch}")
        _fits("Issue", body)
        at = self.stamp()
        part = PullPart(branch, sha, source.slug, base, draft)
        thread = Thread(self.world.new_id(), _next(repo), title, body, who.id, at, at, pull=part)
        repo.threads.append(thread)
        await self._head(repo, thread, source)
        await self._about_any(repo, thread, "opened", login)
        return thread.number

    async def edit_pull(self, slug: str, number: int, login: str, fields: Mapping[str, Any]) -> None:
        repo = self.repo(slug)
        thread = self.thread(repo, number)
        if thread.pull is None:
            raise not_found()
        _fits("Issue", str(fields.get("body") or ""))
        if (base := fields.get("base")) is not None and await self.sha(repo, str(base)) is None:
            raise invalid("PullRequest", "base", "invalid")
        thread.title = str(fields.get("title") or thread.title)
        thread.body = str(fields["body"] or "") if "body" in fields else thread.body
        thread.pull.base = str(base or thread.pull.base)
        if fields.get("state") == "closed":
            await self.close_thread(slug, number, login)
        elif {"title", "body", "base"} & set(fields):
            await self._about_any(repo, thread, "edited", login)

    async def review(
        self, slug: str, number: int, login: str, body: str = "", remarks: Sequence[tuple[str, int, str]] = (),
        state: str = "COMMENTED",
    ) -> tuple[Review, list[Remark]]:  # fmt: skip
        """A submitted review with its comments: (path, line, text) each."""
        repo, who = self.repo(slug), self.add_person(login)
        part = self._pull(repo, number)
        at = self.stamp()
        review = Review(self.world.new_id(), number, who.id, state, body, part.head_sha, at)
        repo.reviews.append(review)
        made = []
        for path, line, text in remarks:
            hunk = f"@@ -{line},1 +{line},1 @@\n {await self._line(repo, part, path, line)}"
            made.append(
                Remark(self.world.new_id(), number, review.id, who.id, text, path, line, hunk, part.head_sha, at, at)
            )
        repo.remarks += made
        pull = await self.pull_record(repo, self.thread(repo, number))
        told = {"review": self.records.review(repo, review, hook=True), "pull_request": pull}
        self.tell(repo, "pull_request_review", "submitted", who, told)
        for remark in made:
            told = {"comment": self.records.remark(repo, remark), "pull_request": pull}
            self.tell(repo, "pull_request_review_comment", "created", who, told)
        return review, made

    async def reply(self, slug: str, remark: int, login: str, body: str) -> Remark:
        """An answer in the thread of a review comment; GitHub puts it into a review of its own."""
        repo, who = self.repo(slug), self.add_person(login)
        top = self.remark(repo, remark)
        if top.in_reply_to is not None:
            raise invalid("PullRequestReviewComment", "in_reply_to_id", "invalid")
        _fits("PullRequestReviewComment", body)
        at = self.stamp()
        review = Review(self.world.new_id(), top.number, who.id, "COMMENTED", "", top.commit, at)
        new = Remark(self.world.new_id(), top.number, review.id, who.id, body, top.path, top.line, top.diff_hunk,
                     top.commit, at, at, in_reply_to=top.id)  # fmt: skip
        repo.reviews.append(review)
        repo.remarks.append(new)
        pull = await self.pull_record(repo, self.thread(repo, top.number))
        told = {"review": self.records.review(repo, review, hook=True), "pull_request": pull}
        self.tell(repo, "pull_request_review", "submitted", who, told)
        told = {"comment": self.records.remark(repo, new), "pull_request": pull}
        self.tell(repo, "pull_request_review_comment", "created", who, told)
        return new

    async def edit_remark(self, slug: str, remark: int, login: str, body: str) -> Remark:
        repo = self.repo(slug)
        one = self.remark(repo, remark)
        one.body, one.updated_at = body, self.stamp()
        pull = await self.pull_record(repo, self.thread(repo, one.number))
        told = {"comment": self.records.remark(repo, one), "pull_request": pull}
        self.tell(repo, "pull_request_review_comment", "edited", access.account(self.world, login), told)
        return one

    def remark(self, repo: Repo, number: int) -> Remark:
        for one in repo.remarks:
            if one.id == number:
                return one
        raise not_found()

    # -- commits and checks

    async def push(self, slug: str, login: str, branch: str, files: Mapping[str, str | None], message: str) -> str:
        """A commit of a person's on a branch; its id. None as a file's text deletes the file."""
        repo, who = self.repo(slug), self.add_person(login)
        before, after = await self.write(repo, branch, files, message, who)
        await self.pushed(slug, login, {branch: (before, after)})
        return after

    async def pushed(self, slug: str, login: str, moved: Mapping[str, tuple[str | None, str | None]]) -> None:
        """Branches were moved by git: (from, to), None for a branch that wasn't or isn't there."""
        repo, who = self.repo(slug), self.add_person(login)
        zero = "0" * 40
        for branch, (before, after) in moved.items():
            told = {"ref": f"refs/heads/{branch}", "before": before or zero, "after": after or zero,
                    "created": before is None, "deleted": after is None, "forced": False, "commits": [],
                    "pusher": {"name": login, "email": None}}  # fmt: skip
            self.tell(repo, "push", None, who, told)
            for target in self.world.repos:
                for thread in target.threads:
                    part = thread.pull
                    if part and not thread.closed_at and (part.head_repository, part.head) == (repo.slug, branch):
                        await self._moved(target, thread, part, repo, before, after, login)

    async def check(
        self, slug: str, sha: str, name: str, conclusion: str, *, title: str = "", summary: str = "", text: str = "",
        annotations: Sequence[Mapping[str, Any]] = (), log: str | None = None, app: str = "github-actions",
    ) -> CheckRun:  # fmt: skip
        """A check that has ended."""
        repo = self.repo(slug)
        run = CheckRun(self.world.new_id(), name, sha, conclusion, title, summary, text,
                       [dict(one) for one in annotations], log, app, self.stamp())  # fmt: skip
        repo.checks.append(run)
        bot = self.add_person("github-actions[bot]", bot=True)
        self.tell(repo, "check_run", "completed", bot, {"check_run": self.records.check(repo, run)})
        return run

    async def pull_record(self, repo: Repo, thread: Thread) -> dict[str, Any]:
        """A pull request as GitHub's JSON."""
        if thread.pull is None:
            raise not_found()
        head = next((one for one in self.world.repos if one.slug == thread.pull.head_repository), None)
        base = await self.sha(repo, thread.pull.base) or "0" * 40
        return self.records.pull(repo, thread, thread.pull, head, base)

    # -- what the above is made of

    async def _moved(
        self,
        repo: Repo,
        thread: Thread,
        part: PullPart,
        source: Repo,
        before: str | None,
        after: str | None,
        login: str,
    ) -> None:
        if after is None:
            await self.close_thread(repo.slug, thread.number, login)
            return
        part.head_sha = after
        await self._head(repo, thread, source)
        await self._about_any(repo, thread, "synchronize", login, before=before, after=after)

    async def _head(self, repo: Repo, thread: Thread, source: Repo) -> None:
        if thread.pull is None:
            return
        if source is not repo:
            await git("fetch", "-q", str(self.bare(source)), thread.pull.head_sha, at=self.bare(repo))
        await git("update-ref", f"refs/pull/{thread.number}/head", thread.pull.head_sha, at=self.bare(repo))

    async def _line(self, repo: Repo, part: PullPart, path: str, line: int) -> str:
        try:
            text = await git_line("show", f"{part.head_sha}:{path}", at=self.bare(repo))
        except GitError:
            raise invalid("PullRequestReviewComment", "path", "invalid") from None
        return text.split("\n")[line - 1] if 0 < line <= text.count("\n") + 1 else ""

    def _pull(self, repo: Repo, number: int) -> PullPart:
        part = self.thread(repo, number).pull
        if part is None:
            raise not_found()
        return part

    def _about(self, repo: Repo, thread: Thread, action: str, login: str, **more: Any) -> None:
        thread.updated_at = self.stamp()
        told = {"issue": self.records.issue(repo, thread), **more}
        self.tell(repo, "issues", action, access.account(self.world, login), told)

    async def _about_any(self, repo: Repo, thread: Thread, action: str, login: str, **more: Any) -> None:
        if thread.pull is None:
            self._about(repo, thread, action, login, **more)
            return
        thread.updated_at = self.stamp()
        record = await self.pull_record(repo, thread)
        told = {
            "number": thread.number,
            "pull_request": self.records.whole_pull(record, repo, thread, thread.pull),
            **more,
        }
        self.tell(repo, "pull_request", action, access.account(self.world, login), told)

    def _about_note(self, repo: Repo, note: Note, action: str, login: str, **more: Any) -> None:
        thread = self.thread(repo, note.number)
        told = {"issue": self.records.issue(repo, thread), "comment": self.records.note(repo, note), **more}
        self.tell(repo, "issue_comment", action, access.account(self.world, login), told)


def _next(repo: Repo) -> int:
    return max((one.number for one in repo.threads), default=0) + 1


def _no_pull(message: str) -> Refusal:
    return Refusal(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": message}])


def _fits(resource: str, body: str) -> None:
    if len(body) > MAX_BODY:
        raise invalid(resource, "body", "custom", f"body is too long (maximum is {MAX_BODY} characters)")


async def _count(bare: Path, base: str, head: str) -> int:
    return int(await git_line("rev-list", "--count", f"{base}..{head}", at=bare))
