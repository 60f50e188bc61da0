"""Environments are made for both kinds, without any network, and sandboxes find what was made for them."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.machine import Machine
from agent.runs import RunFolder
from sandbox.base import CommandEnd, CommandResult, ImageProblem
from sandbox.images import Environment, ImageConfig, base_tree, environment_for, run_tests
from sandbox.images.detect import Setup, Source, Step, Tree
from sandbox.images.setup_image import setup_image
from sandbox.images.setup_tree import cached_environments, remove_environment, setup_tree
from sandbox.policy import BASE_IMAGE
from tests.sandbox.kinds import ISOLATED, need

pytestmark = pytest.mark.heavy

SRC = '[project]\nname = "x"\n'
ONLY_LOOPBACK = "test \"$(ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ')\" = lo"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(params=ISOLATED)
def kind(request: pytest.FixtureRequest) -> str:
    need(str(request.param))
    return str(request.param)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No build has a network (but Podman's, which can't do that); every setting for a registry names a closed port."""
    if "podman" not in request.node.keywords:
        monkeypatch.setenv("PATCHWRIGHT_BUILD_NETWORK", "none")
    for name in ("PIP_INDEX_URL", "npm_config_registry", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture
def made() -> Iterator[list[Environment]]:
    """The environments of a test; they are removed at its end."""
    found: list[Environment] = []
    before = {path.name for path in cached_environments()}
    yield found
    for path in cached_environments():
        if path.name not in before and str(path) in {one.image for one in found}:
            remove_environment(path)
    tags = {one.image for one in found if one.image.startswith("patchwright/environment:")}
    if tags:
        from sandbox.images.engine import engines, find_image

        for _, client in engines():
            for tag in tags:
                if find_image(client, tag) is not None:
                    client.images.remove(tag, force=True)


def make(kind: str, context: Path, made: list[Environment], **config: object) -> tuple[Environment, list[str]]:
    lines: list[str] = []
    settings = {key: config.pop(key) for key in ("image", "workdir", "may_build") if key in config}
    wanted = ImageConfig(**config)  # type: ignore[arg-type]
    found = asyncio.run(
        environment_for(kind, context=context, config=wanted, progress=lines.append, **settings)  # type: ignore[arg-type]
    )
    made.append(found)
    return found, lines


def run(kind: str, made: Environment, context: Path, command: str) -> CommandResult:
    from dataclasses import replace

    return asyncio.run(run_tests(kind, replace(made, detection=replace(made.detection, test=command)), context))


def test_a_set_up_is_found_by_the_sandboxes_and_shared_by_commits(
    kind: str, tmp_path: Path, made: list[Environment]
) -> None:
    files = {
        "pyproject.toml": SRC,
        "src/unique_name.py": "A = 1\n",
        "tests/test_a.py": "import unique_name\ndef test(): pass\n",
    }
    context = write(tmp_path, files)
    found, lines = make(kind, context, made)
    assert found.detection.source is Source.DETECTED and any("PYTHONPATH" in line for line in lines)
    result = asyncio.run(run_tests(kind, found, context))
    assert (result.exit_code, result.end) == (0, CommandEnd.EXITED), result.output.decode()
    write(context, {"src/unique_name.py": "A = 2\n", "new.md": ""})
    assert make(kind, context, made)[0].image == found.image


def test_what_a_command_installs_stays_and_has_no_network(kind: str, tmp_path: Path, made: list[Environment]) -> None:
    context = write(tmp_path, {"tool.sh": f"#!/bin/sh\necho works in {tmp_path}\n"})
    check = "true" if kind == "podman" else f"{ONLY_LOOPBACK} || exit 9"
    setup = f"{check}; install -m 755 tool.sh /usr/local/bin/the-tool; rm /usr/share/doc -r; touch here"
    found, _ = make(kind, context, made, setup=setup)
    result = run(kind, found, context, "the-tool && test ! -e here && test ! -e /usr/share/doc && python --version")
    assert result.exit_code == 0 and f"works in {tmp_path}".encode() in result.output, result.output


@pytest.mark.podman
def test_podman_is_not_asked_to_build_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("podman")
    monkeypatch.setenv("PATCHWRIGHT_BUILD_NETWORK", "none")
    with pytest.raises(ImageProblem, match="can't build an image without network"):
        make("podman", write(tmp_path, {"unique": str(tmp_path)}), [], setup="true")


def test_a_failing_step_is_named_with_its_last_lines(kind: str, tmp_path: Path, made: list[Environment]) -> None:
    context = write(tmp_path, {"unique": str(tmp_path)})
    with pytest.raises(ImageProblem) as caught:
        make(kind, context, made, setup="echo about to fail; fatal error: zlib.h: No such file; exit 7")
    text = str(caught.value)
    assert "| about to fail" in text and "step" in text and "Try: " in text


def apply(kind: str, setup: Setup, context: Path, made: list[Environment]) -> Environment:
    from sandbox.images.detect import Detection
    from sandbox.images.progress import silent

    if kind == "bubblewrap":
        image = str(setup_tree(base_tree(), setup, Tree(context), "/workspace", report=silent))
    else:
        from sandbox.images.engine import connect

        client = connect(kind)
        image = setup_image(client, BASE_IMAGE, setup, Tree(context), "/workspace", report=silent)
        client.close()
    made.append(Environment(image, "/workspace", Detection(Source.DETECTED, (), setup=setup)))
    return made[-1]


def test_folders_that_tests_look_for_are_linked_or_copied_and_never_part_of_a_patch(
    kind: str, tmp_path: Path, made: list[Environment]
) -> None:
    context = write(tmp_path, {".gitignore": "*.so\n", "package.json": str(tmp_path), "other": "not an input"})
    script = (
        "test ! -e other; mkdir -p node_modules/dep packages/a/node_modules/deep vendor; echo dep > node_modules/dep/x;"
        "echo deep > packages/a/node_modules/deep/x; ln -s ../packages/a node_modules/a; echo v > vendor/v;"
        "echo built > ext.so; echo no > not-ignored"
    )
    setup = Setup(
        steps=(Step("filling", script),), inputs=(".gitignore", "package.json"), keep=("node_modules",),
        copy=("vendor",), seed=True, env=(("ANSWER", "$4 \"2\" {workdir}"),),
    )  # fmt: skip
    found = apply(kind, setup, context, made)
    write(context, {"packages/a/source": "a\n"})
    check = (
        "set -ex; cat node_modules/dep/x packages/a/node_modules/deep/x vendor/v ext.so node_modules/a/source;"
        'test ! -e not-ignored; test -L node_modules; test ! -L vendor; test "$ANSWER" = \'$4 "2" /workspace\';'
        "git init -q; git add -A; git status --porcelain"
    )
    result = run(kind, found, context, check)
    output = result.output.decode()
    assert result.exit_code == 0, output
    assert "dep\ndeep\nv\nbuilt\na\n" in output
    listed = {line[3:] for line in output.splitlines() if line.startswith("A  ")}
    assert listed == {".gitignore", "other", "package.json", "packages/a/source"}


def test_the_base_is_not_written_to(tmp_path: Path, made: list[Environment]) -> None:
    need("bubblewrap")
    base = base_tree()
    before = {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in sorted((base / "etc").rglob("*"))}
    script = (
        "echo more >> /etc/hosts.new; echo changed >> /etc/profile; chmod 700 /etc/skel; rm /etc/shells;rm -r /etc/apt;"
        "mkdir /etc/apt; mv /usr/share/zoneinfo /usr/share/elsewhere; ln -s x /etc/link; chmod u+s /usr/local/bin"
    )
    found = apply("bubblewrap", Setup(steps=(Step("changing", script),)), write(tmp_path, {"x": "y"}), made)
    after = {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in sorted((base / "etc").rglob("*"))}
    assert before == after and (base / "usr/share/zoneinfo").is_dir()
    tree = Path(found.image)
    assert (tree / "etc/profile").read_text().endswith("changed\n") and (tree / "etc/hosts.new").is_file()
    assert not (tree / "etc/shells").exists() and not list((tree / "etc/apt").iterdir())
    assert (tree / "usr/share/elsewhere").is_dir() and not (tree / "usr/share/zoneinfo").exists()
    assert (tree / "etc/link").is_symlink() and (tree / "etc/passwd").stat().st_nlink > 1  # shared, not copied


def test_builds_see_nothing_of_the_host(tmp_path: Path, made: list[Environment]) -> None:
    need("bubblewrap")
    (tmp_path / "secret").write_text("s")
    os.environ["PATCHWRIGHT_TEST_SECRET"] = "s"
    script = (
        'refuse() { if "$@" 2>/dev/null; then echo "worked: $*"; exit 9; fi; };'
        f"test ! -e {tmp_path}/secret; test $$ -lt 9; refuse grep -a SECRET /proc/self/environ /proc/1/environ;"
        "refuse mount -t tmpfs x /mnt; refuse chroot / true; refuse unshare -m true; refuse unshare -U true;"
        f"{ONLY_LOOPBACK}"
    )
    try:
        apply("bubblewrap", Setup(steps=(Step("looking", script),)), write(tmp_path / "r", {"x": "y"}), made)
    finally:
        del os.environ["PATCHWRIGHT_TEST_SECRET"]


def test_a_failed_attempt_with_the_manifests_is_repeated_with_all_files(
    kind: str, tmp_path: Path, made: list[Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandbox.images import environment as module
    from sandbox.images.detect import Detection

    context = write(tmp_path, {"manifest": uuid.uuid4().hex, "needed": "x"})
    setup = Setup(steps=(Step("reading", "cat needed > /opt/needed"),), inputs=("manifest",), narrow=True)
    monkeypatch.setattr(module, "candidates", lambda tree: [Detection(Source.DETECTED, (), setup=setup)])
    found, lines = make(kind, context, made)
    assert any("trying with all files" in line for line in lines)
    assert run(kind, found, context, "cat /opt/needed").output == b"x"
    again, lines = make(kind, context, made)
    assert again.image == found.image and not any("failed" in line for line in lines)  # and isn't tried in vain


def test_a_repository_from_elsewhere_builds_nothing_unasked(kind: str, tmp_path: Path, made: list[Environment]) -> None:
    files = {"pyproject.toml": SRC, "src/x.py": "", "Dockerfile": "FROM scratch\n"}
    found, lines = make(kind, write(tmp_path, files), made, may_build=False)
    assert found.detection.source is Source.BASE and sum("--allow-build" in line for line in lines) >= 2


@pytest.mark.parametrize("config", [{"setup": "true"}, {"dockerfile": "Dockerfile"}])
def test_what_it_says_outright_is_refused(
    kind: str, tmp_path: Path, made: list[Environment], config: dict[str, str]
) -> None:
    context = write(tmp_path, {"Dockerfile": f"FROM {BASE_IMAGE}\n"})
    with pytest.raises(ImageProblem, match="--allow-build"):
        make(kind, context, made, may_build=False, **config)


def test_an_image_that_it_names_is_not_looked_for_unasked(kind: str, tmp_path: Path) -> None:
    wanted = environment_for(kind, context=tmp_path, config=ImageConfig(image="private/of:mine"), may_build=False)
    with pytest.raises(ImageProblem, match=r"private/of:mine, which isn't looked for unasked"):
        asyncio.run(wanted)


def test_a_dockerfile_that_makes_no_workplace_is_passed_over(tmp_path: Path, made: list[Environment]) -> None:
    need("docker")
    files = {"pyproject.toml": SRC, "src/x.py": "", "Dockerfile": "FROM scratch\nCOPY src /src\n"}
    found, lines = make("docker", write(tmp_path, files), made)
    assert found.detection.source is Source.DETECTED
    assert any("holds no git, so it is taken for a product" in line for line in lines)


def test_a_devcontainer_is_used(tmp_path: Path, made: list[Environment]) -> None:
    need("docker")
    said = {
        "build": {"dockerfile": "Dockerfile"},
        "postCreateCommand": "cp /from-docker /opt/then",
        "features": {"x": {}},
        "containerEnv": {"ANSWER": "42"},
    }
    files = {
        ".devcontainer/devcontainer.json": json.dumps(said),
        ".devcontainer/Dockerfile": f"FROM {BASE_IMAGE}\nCOPY own /from-docker\n",
        ".devcontainer/own": str(tmp_path),
    }
    found, lines = make("docker", write(tmp_path, files), made)
    assert any("`features` is not supported" in line for line in lines)
    result = run("docker", found, tmp_path, "cat /opt/then; echo $ANSWER")
    assert result.output.decode() == f"{tmp_path}42\n"


LOOK_ALIKE = """
set -e
env=/opt/miniconda3/envs/testbed
mkdir -p /opt/miniconda3/bin /opt/miniconda3/envs
python3 -m venv --without-pip --system-site-packages $env
echo 'ANSWER = 42' > $(echo $env/lib/python3*/site-packages)/only_there.py
printf '#!/bin/sh\\necho conda\\n' > /opt/miniconda3/bin/conda
chmod 755 /opt/miniconda3/bin/conda
mkdir -p /testbed
cd /testbed
git init -q
printf '*.so\\n' > .gitignore
echo old > tracked
git add . && git -c user.name=x -c user.email=x@x commit -qm x
echo built > ext.so
chmod -R 777 /testbed
"""


@pytest.mark.docker
def test_a_published_image_works_as_it_is(tmp_path: Path, made: list[Environment]) -> None:
    """A checkout below /testbed with what was built in it, and a conda environment that only a login shell enters."""
    need("docker")
    from sandbox.images.dockerfile import build_dockerfile
    from sandbox.images.engine import connect

    context = write(tmp_path / "image", {"make.sh": LOOK_ALIKE + f": {tmp_path}\n"})
    lines = [f"FROM {BASE_IMAGE}", "ENV PATH=/opt/miniconda3/bin:$PATH", "COPY make.sh /", "RUN bash /make.sh"]
    write(context, {"Dockerfile": "\n".join([*lines, "WORKDIR /testbed/"]) + "\n"})
    client = connect()
    image = build_dockerfile(client, "Dockerfile", context)
    client.close()
    from sandbox.images.detect import Detection

    made.append(Environment(image, "", Detection(Source.ASKED, ())))
    check_testbed("docker", image, tmp_path, made)


@pytest.mark.bubblewrap
def test_a_published_image_works_as_a_folder(tmp_path: Path, made: list[Environment]) -> None:
    need("bubblewrap")
    context = write(tmp_path / "image", {"unique": str(tmp_path)})
    folder = apply("bubblewrap", Setup(steps=(Step("like one", LOOK_ALIKE),)), context, made)
    check_testbed("bubblewrap", folder.image, tmp_path, made)


def check_testbed(kind: str, image: str, tmp_path: Path, made: list[Environment]) -> None:
    context = write(tmp_path / "repository", {"tracked": "new\n", ".gitignore": "*.so\n"})
    found, lines = make(kind, context, made, image=image)
    assert found.workdir == "/testbed" and any("conda" in line for line in lines)
    look = "python -c 'import only_there; print(only_there.ANSWER)'"
    check = f"pwd; {look}; conda; cat ext.so tracked; echo $CONDA_DEFAULT_ENV"
    result = run(kind, found, context, check)
    assert result.output.decode() == "/testbed\n42\nconda\nbuilt\nnew\ntestbed\n"
    # a run opens it the same way, also when it is resumed and knows nothing but the image's name
    folder = tmp_path / "run"
    folder.mkdir()

    async def through_a_run() -> bytes:
        async with await Machine(kind, found.image, found.workdir, RunFolder(folder)).open() as sandbox:
            return (await sandbox.run("cat ext.so; which python", cwd="/testbed")).output

    assert asyncio.run(through_a_run()) == b"built\n/opt/miniconda3/envs/testbed/bin/python\n"
