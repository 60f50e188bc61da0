"""Plain Dockerfiles as steps: run by a shell they do what an engine would; all others are refused by name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from evals.terminal.dockerfile import NotPlain, read_plain

BASE = "FROM patchwright/base:latest\n"


def test_steps_do_what_they_say(tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "data").mkdir(parents=True)
    (context / ".patchwright-build").mkdir()
    (context / "one.txt").write_text("1")
    (context / "data/two 2.txt").write_text("2")
    app = tmp_path / "app"
    text = BASE + (
        f"WORKDIR {app}\nENV WORD=some OTHER='two words'\nCOPY one.txt .\nCOPY one.txt {app}/renamed.txt\n"
        "COPY data/ sub\nCOPY . all/\n# a comment\nRUN echo $WORD $OTHER > said.txt && \\\n    # within\n    touch b\n"
        'RUN ["touch", "a b"]\nWORKDIR sub\nRUN touch here\nCMD ["x"]\n'
    )
    plain = read_plain(text, str(context))
    for step in plain.steps:
        subprocess.run(["/bin/sh", "-ec", step.command], check=True, cwd=tmp_path)
    assert plain.workdir == f"{app}/sub"
    assert dict(plain.env) == {"WORD": "some", "OTHER": "two words"}
    assert (app / "said.txt").read_text() == "some two words\n"
    found = sorted(path.relative_to(app).as_posix() for path in app.rglob("*") if path.is_file())
    assert found == [
        "a b", "all/data/two 2.txt", "all/one.txt", "b", "one.txt", "renamed.txt", "said.txt", "sub/here",
        "sub/two 2.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RUN true\n",
        "FROM python:3.13-slim\n",
        "FROM patchwright/base AS one\n",
        BASE + BASE,
        BASE + "COPY --from=x a b\n",
        BASE + "COPY ../a b\n",
        BASE + "COPY *.txt b\n",
        BASE + "ADD https://example.org/a b\n",
        BASE + "RUN --mount=type=cache true\n",
        BASE + "RUN <<EOF\ntrue\nEOF\n",
        BASE + "WORKDIR $HOME/x\n",
        BASE + 'SHELL ["/bin/bash"]\n',
        BASE + "ARG X=1\n",
        BASE + "VOLUME /x\n",
    ],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(NotPlain):
        read_plain(text, "/context")
