"""The fake forge's state as GitHub's JSON: the fields that clients read, by their documented names.

Left out: fields that only link to further endpoints which the fake forge doesn't have.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from agent.forges.fake.access import account_by_id, role
from agent.forges.fake.state import (
    Account,
    App,
    CheckRun,
    Installation,
    Note,
    PullPart,
    Reaction,
    Remark,
    Repo,
    Review,
    Thread,
    World,
)

Json = dict[str, Any]
_ASSOCIATION = {"admin": "OWNER", "maintain": "MEMBER", "write": "COLLABORATOR", "triage": "COLLABORATOR"}


class Records:
    """Makes records. `web` is the forge's address without a slash at its end; the API is below `/api/v3`."""

    def __init__(self, world: World, web: str) -> None:
        self.world = world
        self.web = web
        self.api = f"{web}/api/v3"

    def user(self, who: Account | int) -> Json:
        one = account_by_id(self.world, who) if isinstance(who, int) else who
        url = f"{self.api}/users/{quote(one.login, safe='')}"
        web = f"{self.web}/{one.login}" if not one.bot else f"{self.web}/apps/{one.login.removesuffix('[bot]')}"
        links = ("followers", "following", "gists", "starred", "subscriptions", "repos", "events", "received_events")
        return {
            "login": one.login, "id": one.id, "node_id": node("U", one.id), "avatar_url": f"{web}.png",
            "gravatar_id": "", "url": url, "html_url": web, "organizations_url": f"{url}/orgs",
            **{f"{name}_url": f"{url}/{name}" for name in links},
            "type": "Bot" if one.bot else "User", "site_admin": False,
        }  # fmt: skip

    def repository(self, repo: Repo) -> Json:
        url, web = f"{self.api}/repos/{repo.slug}", f"{self.web}/{repo.slug}"
        owner = next((one for one in self.world.accounts if one.login == repo.owner), None)
        return {
            "id": repo.id, "node_id": node("R", repo.id), "name": repo.name, "full_name": repo.slug,
            "private": repo.private, "owner": self.user(owner) if owner else None, "html_url": web,
            "description": None, "fork": repo.parent is not None, "url": url, "clone_url": f"{web}.git",
            "default_branch": repo.default_branch, "archived": False, "disabled": False,
            "visibility": "private" if repo.private else "public", "created_at": repo.created_at,
            "updated_at": repo.created_at, "pushed_at": repo.created_at,
        }  # fmt: skip

    def issue(self, repo: Repo, thread: Thread) -> Json:
        url = f"{self.api}/repos/{repo.slug}/issues/{thread.number}"
        kind = "pull" if thread.pull else "issues"
        pull = f"{self.api}/repos/{repo.slug}/pulls/{thread.number}"
        web = f"{self.web}/{repo.slug}/{kind}/{thread.number}"
        people = [self.user(one) for one in thread.assignees]
        return {
            "url": url, "repository_url": f"{self.api}/repos/{repo.slug}", "labels_url": f"{url}/labels{{/name}}",
            "comments_url": f"{url}/comments", "events_url": f"{url}/events", "html_url": web, "id": thread.id,
            "node_id": node("I", thread.id), "number": thread.number, "title": thread.title,
            "user": self.user(thread.author), "labels": [label(name) for name in thread.labels],
            "state": "closed" if thread.closed_at else "open", "locked": False,
            "assignee": people[0] if people else None, "assignees": people, "milestone": None,
            "comments": sum(note.number == thread.number for note in repo.notes), "created_at": thread.created_at,
            "updated_at": thread.updated_at, "closed_at": thread.closed_at,
            "author_association": self.association(repo, thread.author), "active_lock_reason": None,
            "body": thread.body or None,
            **({"draft": thread.pull.draft, "pull_request": {
                "url": pull, "html_url": web, "merged_at": thread.pull.merged_at}} if thread.pull else {}),
        }  # fmt: skip

    def pull(self, repo: Repo, thread: Thread, part: PullPart, head: Repo | None, base_sha: str) -> Json:
        url = f"{self.api}/repos/{repo.slug}/pulls/{thread.number}"
        issue = self.issue(repo, thread)
        issue.pop("pull_request")
        sides = {"head": (head, part.head, part.head_sha), "base": (repo, part.base, base_sha)}
        return {
            **issue, "url": url, "node_id": node("PR", thread.id), "issue_url": issue["url"],
            "diff_url": f"{issue['html_url']}.diff", "patch_url": f"{issue['html_url']}.patch",
            "commits_url": f"{url}/commits", "review_comments_url": f"{url}/comments",
            "review_comment_url": f"{self.api}/repos/{repo.slug}/pulls/comments{{/number}}",
            "statuses_url": f"{self.api}/repos/{repo.slug}/statuses/{part.head_sha}",
            **{name: self._side(*side) for name, side in sides.items()},
            "merged_at": part.merged_at, "merge_commit_sha": None, "auto_merge": None,
            "requested_reviewers": [], "requested_teams": [],
            "_links": {"self": {"href": url}, "html": {"href": issue["html_url"]}},
        }  # fmt: skip

    def whole_pull(self, record: Json, repo: Repo, thread: Thread, part: PullPart) -> Json:
        """What only the answer for one pull request has."""
        return {
            **record, "merged": part.merged_at is not None, "mergeable": True, "rebaseable": True,
            "mergeable_state": "draft" if part.draft else "clean", "merged_by": None, "maintainer_can_modify": False,
            "review_comments": sum(remark.number == thread.number for remark in repo.remarks), "commits": 1,
            "additions": 0, "deletions": 0, "changed_files": 1,
        }  # fmt: skip

    def _side(self, repo: Repo | None, ref: str, sha: str) -> Json:
        record = self.repository(repo) if repo else None
        owner = record["owner"] if record else None
        name = repo.owner if repo else "unknown"
        return {"label": f"{name}:{ref}", "ref": ref, "sha": sha, "user": owner, "repo": record}

    def note(self, repo: Repo, note: Note) -> Json:
        url = f"{self.api}/repos/{repo.slug}/issues"
        thread = next(one for one in repo.threads if one.number == note.number)
        kind = "pull" if thread.pull else "issues"
        return {
            "url": f"{url}/comments/{note.id}", "issue_url": f"{url}/{note.number}", "id": note.id,
            "html_url": f"{self.web}/{repo.slug}/{kind}/{note.number}#issuecomment-{note.id}",
            "node_id": node("IC", note.id), "user": self.user(note.author), "created_at": note.created_at,
            "updated_at": note.updated_at, "author_association": self.association(repo, note.author),
            "performed_via_github_app": None, "body": note.body,
        }  # fmt: skip

    def review(self, repo: Repo, review: Review, *, hook: bool = False) -> Json:
        web = f"{self.web}/{repo.slug}/pull/{review.number}#pullrequestreview-{review.id}"
        pull = f"{self.api}/repos/{repo.slug}/pulls/{review.number}"
        return {
            "id": review.id, "node_id": node("PRR", review.id), "user": self.user(review.author),
            "body": review.body or (None if hook else ""), "commit_id": review.commit,
            "submitted_at": review.submitted_at, "state": review.state.lower() if hook else review.state,
            "html_url": web, "pull_request_url": pull, "author_association": self.association(repo, review.author),
            "_links": {"html": {"href": web}, "pull_request": {"href": pull}},
        }  # fmt: skip

    def remark(self, repo: Repo, remark: Remark) -> Json:
        url = f"{self.api}/repos/{repo.slug}/pulls/comments/{remark.id}"
        web = f"{self.web}/{repo.slug}/pull/{remark.number}#discussion_r{remark.id}"
        pull = f"{self.api}/repos/{repo.slug}/pulls/{remark.number}"
        return {
            "url": url, "pull_request_review_id": remark.review, "id": remark.id, "node_id": node("PRRC", remark.id),
            "diff_hunk": remark.diff_hunk, "path": remark.path, "position": 1, "original_position": 1,
            "commit_id": remark.commit, "original_commit_id": remark.commit, "user": self.user(remark.author),
            "body": remark.body, "created_at": remark.created_at, "updated_at": remark.updated_at, "html_url": web,
            "pull_request_url": pull, "author_association": self.association(repo, remark.author),
            "_links": {"self": {"href": url}, "html": {"href": web}, "pull_request": {"href": pull}},
            "start_line": None, "original_start_line": None, "start_side": None, "line": remark.line,
            "original_line": remark.line, "side": "RIGHT", "subject_type": "line",
            **({"in_reply_to_id": remark.in_reply_to} if remark.in_reply_to else {}),
        }  # fmt: skip

    def check(self, repo: Repo, run: CheckRun) -> Json:
        url = f"{self.api}/repos/{repo.slug}/check-runs/{run.id}"
        web = f"{self.web}/{repo.slug}/runs/{run.id}"
        pulls: list[Json] = [
            {"id": one.id, "number": one.number, "url": f"{self.api}/repos/{repo.slug}/pulls/{one.number}",
             "head": {"ref": one.pull.head, "sha": one.pull.head_sha, "repo": {"id": repo.id, "name": repo.name}},
             "base": {"ref": one.pull.base, "repo": {"id": repo.id, "name": repo.name}}}
            for one in repo.threads
            if one.pull and not one.closed_at and one.pull.head_sha == run.sha and one.pull.head_repository == repo.slug
        ]  # fmt: skip
        branch = pulls[0]["head"]["ref"] if pulls else None
        return {
            "id": run.id, "node_id": node("CR", run.id), "head_sha": run.sha, "external_id": "", "url": url,
            "html_url": web, "details_url": web, "status": "completed", "conclusion": run.conclusion,
            "started_at": run.at, "completed_at": run.at, "name": run.name,
            "output": {"title": run.title or None, "summary": run.summary or None, "text": run.text or None,
                       "annotations_count": len(run.annotations), "annotations_url": f"{url}/annotations"},
            "check_suite": {"id": run.id, "head_branch": branch, "head_sha": run.sha, "pull_requests": pulls},
            "app": {"id": 15368, "slug": run.app, "name": run.app, "node_id": node("A", 15368)},
            "pull_requests": pulls,
        }  # fmt: skip

    def reaction(self, reaction: Reaction) -> Json:
        return {
            "id": reaction.id, "node_id": node("REA", reaction.id), "user": self.user(reaction.author),
            "content": reaction.content, "created_at": reaction.created_at,
        }  # fmt: skip

    def app(self, app: App) -> Json:
        return {
            "id": app.id, "slug": app.slug, "client_id": app.client_id, "node_id": node("A", app.id),
            "owner": self.user(self.world.accounts[0]), "name": app.slug, "description": "",
            "external_url": self.web, "html_url": f"{self.web}/apps/{app.slug}", "created_at": app.created_at,
            "updated_at": app.created_at, "permissions": app.permissions, "events": app.events or [],
            "installations_count": len(app.installations),
        }  # fmt: skip

    def installation(self, app: App, one: Installation) -> Json:
        owner = next(who for who in self.world.accounts if who.login == one.owner)
        url = f"{self.api}/app/installations/{one.id}"
        return {
            "id": one.id, "account": self.user(owner), "repository_selection": "selected", "app_id": app.id,
            "client_id": app.client_id, "app_slug": app.slug, "target_id": owner.id, "target_type": "User",
            "access_tokens_url": f"{url}/access_tokens", "html_url": f"{self.web}/settings/installations/{one.id}",
            "repositories_url": f"{self.api}/installation/repositories", "permissions": app.permissions,
            "events": app.events or [], "created_at": app.created_at, "updated_at": app.created_at,
            "single_file_name": None, "suspended_at": None, "suspended_by": None,
        }  # fmt: skip

    def association(self, repo: Repo, who: int) -> str:
        return _ASSOCIATION.get(role(self.world, repo, account_by_id(self.world, who)), "NONE")


def node(kind: str, number: int) -> str:
    return f"{kind}_{base64.urlsafe_b64encode(str(number).encode()).decode().rstrip('=')}"


def label(name: str) -> Json:
    number = sum(name.encode()) + 10_000
    return {
        "id": number, "node_id": node("LA", number), "url": f"/labels/{quote(name)}", "name": name,
        "color": "ededed", "default": False, "description": None,
    }  # fmt: skip
