"""Templates of the forge's addresses: nothing of a repository, a person or a number is left in them."""

from __future__ import annotations

import pytest

from service.telemetry.routes import route


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/user", "/user"),
        ("/user/1001", "/user/{id}"),
        ("/user/installations", "/user/installations"),
        ("/users/mia", "/users/{login}"),
        ("/repos/octo/calc", "/repos/{owner}/{repo}"),
        ("/repos/issues/pulls/issues/7/comments?page=2", "/repos/{owner}/{repo}/issues/{}/comments"),
        ("/repos/octo/calc/issues/comments/99/reactions", "/repos/{owner}/{repo}/issues/comments/{}/reactions"),
        ("/repos/octo/calc/collaborators/mia/permission", "/repos/{owner}/{repo}/collaborators/{login}/permission"),
        ("/repos/octo/calc/contents/src/secret.py?ref=main", "/repos/{owner}/{repo}/contents/{path}"),
        ("/repos/octo/calc/git/ref/heads/patchwright/issue-7", "/repos/{owner}/{repo}/git/ref/heads/{branch}"),
        ("/app/installations/12/access_tokens", "/app/installations/{}/access_tokens"),
        ("https://elsewhere.example/x/y", "/{}/{}"),
        ("/" + "/".join(["never", "seen"] * 9), "/{}/{}/{}/{}/{}/{}/{}/{}"),
    ],
)
def test_a_template_has_only_known_words(path: str, template: str) -> None:
    assert route(path) == template
