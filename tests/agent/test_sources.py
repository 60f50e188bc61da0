"""What REPO and ISSUE may be, and what is said of anything else."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.ends import InputProblem
from agent.sources import issues, repositories
from tests.agent.repos import CALC, git, make_repo


@pytest.mark.parametrize(
    ("url", "slug"),
    [
        ("https://github.com/pallets/flask", "pallets/flask"),
        ("https://github.com/pallets/flask.git", "pallets/flask"),
        ("git@github.com:pallets/flask.git", "pallets/flask"),
        ("ssh://git@github.com/pallets/flask", "pallets/flask"),
        ("https://gitlab.com/pallets/flask", None),
        ("https://github.com.evil.invalid/pallets/flask", None),
        ("", None),
    ],
)
def test_the_slug_of_a_remote(url: str, slug: str | None) -> None:
    assert repositories.slug_of(url) == slug


async def test_the_three_forms_of_a_repository(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", CALC)
    git(repo, "remote", "add", "origin", "git@github.com:me/calc.git")
    inside = await repositories.resolve(str(repo / "calc"))
    assert (inside.folder, inside.slug) == (repo.resolve(), "me/calc")
    named = await repositories.resolve("pallets/flask")
    assert (named.url, named.folder, named.slug) == ("https://github.com/pallets/flask.git", None, "pallets/flask")
    assert (await repositories.resolve("https://example.invalid/x.git")).url == "https://example.invalid/x.git"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/nowhere/at/all", "no folder, no git URL and no owner/name"),
        ("what is this", "no folder, no git URL and no owner/name"),
        ("https://me:password@example.invalid/x", "holds a login, a password or a token"),
        ("https://some-token@example.invalid/x", "holds a login, a password or a token"),
        ("--upload-pack=evil", "no folder"),
        ("ext::sh -c evil", "no folder"),
    ],
)
async def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputProblem, match=message):
        await repositories.resolve(text)


async def test_a_repository_that_cannot_be_fetched(tmp_path: Path) -> None:
    gone = repositories.Repository(f"file://{tmp_path}/gone")
    with pytest.raises(InputProblem, match=r"can't be fetched: .*Check the address"):
        await repositories.fetch_base(gone, tmp_path / "bare", None, allow_dirty=False)


async def test_an_issue_from_text_file_and_standard_input(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "issue.md"
    file.write_text("# mean() is off\n\nBy one.\n")
    assert (await issues.resolve(str(file), slug=None)).text == "# mean() is off\n\nBy one."
    assert (await issues.resolve("mean() is off by one", slug=None)).text == "mean() is off by one"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\n")))
    assert (await issues.resolve("-", slug=None)) == issues.Issue("from a pipe", "standard input")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  ", "is empty"),
        ("missing/issue.md", "there is no file missing/issue.md"),
        ("issue.md", "there is no file issue.md"),
        ("/", "is a folder"),
        ("x " * 100_001, "longer than"),
        ("17", "no GitHub remote"),
    ],
)
async def test_an_issue_that_cannot_be_used(text: str, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputProblem, match=message):
        await issues.resolve(text, slug=None)


@pytest.fixture
def api(monkeypatch) -> Iterator[list[tuple[str, str | None]]]:
    """A stand-in for GitHub's API on loopback that knows one issue."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            found = self.path == "/repos/pallets/flask/issues/5014"
            body = json.dumps({"title": "Require a name", "body": "Blueprints may be empty."} if found else {}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PATCHWRIGHT_GITHUB_API", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    yield asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("form", ["5014", "#5014", "https://github.com/pallets/flask/issues/5014#issuecomment-1"])
async def test_an_issue_from_github(api: list, form: str, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "t0ken")
    issue = await issues.resolve(form, slug="pallets/flask")
    assert issue == issues.Issue("Require a name\n\nBlueprints may be empty.", "pallets/flask#5014")
    assert api == [("/repos/pallets/flask/issues/5014", "Bearer t0ken")]


async def test_an_issue_that_github_does_not_show(api: list) -> None:
    with pytest.raises(InputProblem, match="answered 404: set GITHUB_TOKEN"):
        await issues.resolve("1", slug="pallets/flask")


async def test_github_out_of_reach(monkeypatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_GITHUB_API", "http://127.0.0.1:9")
    with pytest.raises(InputProblem, match="save the issue to a file"):
        await issues.resolve("1", slug="pallets/flask")
