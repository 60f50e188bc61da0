"""The fake forge in a browser: repositories, issues and pull requests, to be read as they come. Nothing can be done.

Whatever people or models wrote is escaped; of Markdown only what comments need is shown as such.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from agent.forges.fake import access
from agent.forges.fake.access import Refusal
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.api import branch_diff
from agent.forges.fake.state import Repo, Thread

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MAX_DIFF = 200_000
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_FENCE = re.compile(r"^```[^\n]*\n(.*?)(?:^```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_FOLDS = re.compile(r"&lt;(/?(?:details|summary))&gt;")
_SYMBOLS = {"+1": "👍", "-1": "👎", "laugh": "😄", "confused": "😕", "heart": "❤️", "hooray": "🎉", "rocket": "🚀",
            "eyes": "👀"}  # fmt: skip

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d1d9e0, #3d444d); --soft: light-dark(#f6f8fa, #151b23);
  --quiet: light-dark(#59636e, #9198a1); --link: light-dark(#0969da, #4493f8); }
body { font: 15px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere;
  background: light-dark(#fff, #0d1117); color: light-dark(#1f2328, #f0f6fc); }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
header { border-bottom: 1px solid var(--line); margin-bottom: 1rem; padding-bottom: .5rem; }
h1 { font-size: 1.5rem; font-weight: 500; } h2 { font-size: 1.1rem; }
.quiet { color: var(--quiet); font-weight: 400; }
.state { border-radius: 1rem; padding: .15rem .7rem; color: #fff; font-size: .85rem; background: #1f883d; }
.state.closed { background: #8250df; } .state.draft { background: #59636e; }
.label { border: 1px solid var(--line); border-radius: 1rem; padding: .05rem .6rem; font-size: .8rem; }
.card { border: 1px solid var(--line); border-radius: .4rem; margin: 1rem 0; }
.card > h2 { margin: 0; padding: .5rem 1rem; background: var(--soft); border-bottom: 1px solid var(--line);
  border-radius: .4rem .4rem 0 0; font-size: .9rem; font-weight: 500; }
.body { padding: .5rem 1rem; } .body p { white-space: pre-wrap; margin: .5rem 0; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; border-radius: .3rem; font-size: .85em; }
table { border-collapse: collapse; margin: .5rem 0; } td { border: 1px solid var(--line); padding: .2rem .7rem; }
tr:first-child td { font-weight: 600; background: var(--soft); }
code { background: var(--soft); padding: .1em .3em; border-radius: .2rem; font-size: .9em; }
.add { color: light-dark(#116329, #7ee787); } .del { color: light-dark(#82071e, #ffa198); }
.hunk { color: var(--quiet); }
ul.list { list-style: none; padding: 0; } ul.list li { padding: .5rem 0; border-bottom: 1px solid var(--line); }
"""


async def index(forge: FakeForge, request: Request) -> Response:
    items = [f'<li><a href="/{repo.slug}">{escape(repo.slug)}</a></li>' for repo in forge.world.repos]
    return _page("Fake forge", "<h1>Repositories</h1>" + _list(items), refresh=True)


async def repository(forge: FakeForge, request: Request) -> Response:
    repo = _repo(forge, request)
    if repo is None:
        return _missing()
    items = [
        f'<li><a href="{_address(repo, one)}">{escape(one.title)}</a> <span class="quiet">#{one.number}</span> '
        f"{_state(one)} {_labels(one)}</li>"
        for one in reversed(repo.threads)
    ]
    return _page(repo.slug, f"<h1>{escape(repo.slug)}</h1>{_list(items)}", refresh=True)


async def thread(forge: FakeForge, request: Request) -> Response:
    """An issue or pull request with everything that was said, and a pull request's changes."""
    repo = _repo(forge, request)
    found = (
        next((one for one in repo.threads if str(one.number) == request.path_params["number"]), None) if repo else None
    )
    if repo is None or found is None:
        return _missing()
    parts = [
        f'<h1>{escape(found.title)} <span class="quiet">#{found.number}</span></h1>',
        f"<p>{_state(found)} {_labels(found)} {_branches(found)} {_reactions(repo, 'issue', found.number)}</p>",
        _card(forge, found.author, found.created_at, found.body),
    ]
    parts += [text for _, text in sorted(_talk(forge, repo, found), key=lambda pair: pair[0])]
    if found.pull is not None:
        parts.append(_checks(repo, found))
        diff = await branch_diff(forge, repo, found.pull.base, found.pull.head_sha)
        parts.append(f"<h2>Changes</h2>{_diff(diff[:MAX_DIFF])}")
    link = f'<a href="/{repo.slug}">{escape(repo.slug)}</a>'
    return _page(f"{found.title} · {repo.slug}", f"<p>{link}</p>" + "".join(parts), refresh=True)


async def style(forge: FakeForge, request: Request) -> Response:
    from starlette.responses import Response

    return Response(STYLE, media_type="text/css")


def _talk(forge: FakeForge, repo: Repo, found: Thread) -> list[tuple[tuple[str, int], str]]:
    said = [
        (
            (one.created_at, one.id),
            _card(forge, one.author, one.created_at, one.body, after=_reactions(repo, "comment", one.id)),
        )
        for one in repo.notes
        if one.number == found.number
    ]
    said += [
        (
            (one.submitted_at, one.id),
            _card(forge, one.author, one.submitted_at, one.body, how=one.state.lower().replace("_", " ")),
        )
        for one in repo.reviews
        if one.number == found.number and one.body
    ]
    for one in repo.remarks:
        if one.number == found.number:
            where = f"<pre>{escape(one.diff_hunk)}</pre>" if one.in_reply_to is None else ""
            how = f"on {one.path}:{one.line}" if one.in_reply_to is None else "answered"
            top = one.in_reply_to or one.id
            first = next(other for other in repo.remarks if other.id == top)
            card = _card(
                forge, one.author, one.created_at, one.body, how=how, before=where,
                after=_reactions(repo, "review_comment", one.id),
            )  # fmt: skip
            said.append(((first.created_at, one.id), card))
    return said


def _card(
    forge: FakeForge, author: int, at: str, body: str, *, how: str = "commented", before: str = "", after: str = ""
) -> str:
    login = escape(access.account_by_id(forge.world, author).login)
    head = f'<h2>{login} <span class="quiet">{escape(how)} · {escape(at)}</span></h2>'
    return f'<section class="card">{head}<div class="body">{before}{markdown(body)}{after}</div></section>'


def markdown(text: str) -> str:
    """A comment's text as HTML: code, headings, bold, folded parts; everything else as it was written."""
    text = _COMMENT.sub("", text)
    parts = []
    at = 0
    for fence in _FENCE.finditer(text):
        parts += [_prose(text[at : fence.start()]), f"<pre>{escape(fence[1])}</pre>"]
        at = fence.end()
    return "".join([*parts, _prose(text[at:])])


def _prose(text: str) -> str:
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if not block.strip():
            continue
        safe = _FOLDS.sub(r"<\1>", escape(block))
        safe = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", safe)
        safe = re.sub(r"\*\*([^*\n]+)\*\*", r"<strong>\1</strong>", safe)
        safe = re.sub(r"(?m)^#{1,6} (.+)$", r"<strong>\1</strong>", safe)
        if all(line.startswith("|") for line in safe.splitlines()):
            blocks.append(_table(safe))
        else:
            blocks.append(safe if "<details>" in safe else f"<p>{safe}</p>")
    return "".join(blocks)


def _table(block: str) -> str:
    """Lines of cells between bars, escaped already; the line of dashes below the head is left out."""
    lines = [line for line in block.splitlines() if line.strip("|-: ")]
    rows = ["".join(f"<td>{cell.strip()}</td>" for cell in line.strip().strip("|").split("|")) for line in lines]
    return "<table>{}</table>".format("".join(f"<tr>{row}</tr>" for row in rows))


def _diff(text: str) -> str:
    kinds = {"+": "add", "-": "del", "@": "hunk"}
    lines = [f'<span class="{kinds.get(line[:1], "")}">{escape(line)}</span>' for line in text.splitlines()]
    return "<pre>{}</pre>".format("\n".join(lines))


def _checks(repo: Repo, found: Thread) -> str:
    sha = found.pull.head_sha if found.pull else ""
    runs = [one for one in repo.checks if one.sha == sha]
    items = [
        f"<li>{escape(one.name)}: <strong>{escape(one.conclusion)}</strong> {escape(one.title)}</li>" for one in runs
    ]
    return f"<h2>Checks</h2>{_list(items)}" if items else ""


def _state(one: Thread) -> str:
    if one.closed_at:
        word = "merged" if one.pull and one.pull.merged_at else "closed"
        return f'<span class="state closed">{word}</span>'
    if one.pull and one.pull.draft:
        return '<span class="state draft">draft</span>'
    return '<span class="state">open</span>'


def _labels(one: Thread) -> str:
    return " ".join(f'<span class="label">{escape(name)}</span>' for name in one.labels)


def _branches(one: Thread) -> str:
    return f"<code>{escape(one.pull.base)}</code> ← <code>{escape(one.pull.head)}</code>" if one.pull else ""


def _reactions(repo: Repo, kind: str, target: int) -> str:
    found = [
        f'{_SYMBOLS[one.content]} <span class="quiet">{escape(one.content)}</span>'
        for one in repo.reactions
        if (one.kind, one.target) == (kind, target)
    ]
    return " ".join(found)


def _address(repo: Repo, one: Thread) -> str:
    return f"/{repo.slug}/{'pull' if one.pull else 'issues'}/{one.number}"


def _list(items: Sequence[str]) -> str:
    return f'<ul class="list">{"".join(items)}</ul>' if items else '<p class="quiet">Nothing yet.</p>'


def _repo(forge: FakeForge, request: Request) -> Repo | None:
    try:
        return forge.repo(f"{request.path_params['owner']}/{request.path_params['name']}")
    except Refusal:
        return None


def _missing() -> Response:
    return _page("Not found", "<h1>There is no such page</h1>", status=404)


def _page(title: str, content: str, *, refresh: bool = False, status: int = 200) -> Response:
    from starlette.responses import HTMLResponse

    again = '<meta http-equiv="refresh" content="5">' if refresh else ""
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/_style.css"></head><body><header><a href="/">Fake forge</a> '
        '<span class="quiet">a stand-in for GitHub on this machine</span></header>'
        f"<main>{content}</main></body></html>"
    )
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(text, status, headers=headers)
