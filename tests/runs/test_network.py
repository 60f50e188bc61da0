"""The network of a run: the user's choice only, told to the model, every request in the log."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import RepositoryConfig, parse_config
from agent.ends import InputProblem
from agent.network import Access, model_notes, ungranted
from agent.request import FixRequest
from sandbox.policy import Network, SandboxSpec
from tests.runs.harness import BUGGY, Place, call, fixing_turns, served
from tests.sandbox.kinds import need

pytestmark = pytest.mark.heavy

REQUEST = FixRequest("repo", "issue", "model", sandbox="docker")
WISH = '[sandbox]\nnetwork = "full"\n'


def test_a_repository_can_only_wish() -> None:
    config = parse_config(WISH)
    said = ungranted(REQUEST, config)
    assert said is not None and "`full`" in said and "`none`" in said and "--network full" in said
    assert ungranted(replace(REQUEST, network="registries"), config) is not None
    assert ungranted(replace(REQUEST, network="full"), config) is None
    assert ungranted(REQUEST, parse_config('[sandbox]\nnetwork = "none"\n')) is None
    assert ungranted(REQUEST, RepositoryConfig()) is None
    for text in ('network = "everything"', "network = true", 'runtime = "runc"'):
        with pytest.raises(InputProblem):
            parse_config(f"[sandbox]\n{text}\n")


def test_the_model_is_told_what_it_has_and_nothing_new_for_none() -> None:
    assert model_notes(REQUEST) == ()
    (registries,) = model_notes(replace(REQUEST, network="registries"))
    (full,) = model_notes(replace(REQUEST, network="full"))
    assert "package indexes" in registries and registries != full
    assert model_notes(replace(REQUEST, network="full", sandbox="none")) == ()


def test_what_the_user_gave_is_what_sandboxes_get() -> None:
    spec = Access(Network.REGISTRIES, "runsc").applied(SandboxSpec(image="x"))
    assert (spec.network, spec.runtime, spec.image) == (Network.REGISTRIES, "runsc", "x")
    assert Access().applied(SandboxSpec()).network is Network.NONE
    old = REQUEST.to_json()
    del old["network"], old["runtime"]
    assert FixRequest.from_json(old).network == "none", "a run of before there were networks goes on without"
    assert FixRequest.from_json(replace(REQUEST, network="full").to_json()).network == "full"


@pytest.fixture
def index() -> Iterator[int]:
    """A server that the host's configuration will name as an index."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def reach(port: int) -> dict[str, object]:
    code = (
        "import urllib.request as u\nfor url in ({!r}, 'http://example.org/'):\n".format(
            f"http://host.internal:{port}/"
        )
        + "  try: print(u.urlopen(url, timeout=20).status)\n  except Exception as error: print(error)"
    )
    return call("bash", command=f"python3 - <<'EOF'\n{code}\nEOF")


@pytest.mark.slow
def test_a_wish_changes_nothing(tmp_path: Path, index: int) -> None:
    need("bubblewrap")
    place = Place(tmp_path, "bubblewrap")
    place.make_repo({**BUGGY, ".patchwright.toml": WISH})
    with served([reach(index), *fixing_turns()]) as model:
        done = place.fix(model.url, PIP_INDEX_URL=f"http://localhost:{index}/")
    assert done.code == 0, done.err + done.out[-3000:]
    observed = done.of_type("observation")[0]["text"]
    assert "200" not in observed.splitlines()[1:3] and "resolution" in observed
    assert any("wishes for the network `full`" in event["text"] for event in done.of_type("progress"))
    assert done.of_type("sandbox_opened")[0]["network"] == "none" and not done.of_type("network")
    assert "Network:" not in str(done.of_type("prompt")[0]["messages"])


@pytest.mark.slow
def test_a_run_with_registries(tmp_path: Path, index: int) -> None:
    need("bubblewrap")
    place = Place(tmp_path, "bubblewrap")
    place.make_repo()
    with served([reach(index), *fixing_turns()]) as model:
        done = place.fix(model.url, PIP_INDEX_URL=f"http://localhost:{index}/", PATCHWRIGHT_NETWORK="registries")
    assert done.code == 0, done.err + done.out[-3000:]
    observed = done.of_type("observation")[0]["text"].splitlines()
    assert observed[1] == "200" and "403" in observed[2]
    requests = [(event["target"], event["allowed"]) for event in done.of_type("network")]
    assert requests == [(f"host.internal:{index}", True), ("example.org:80", False)]
    assert "package indexes" in str(done.of_type("prompt")[0]["messages"])
    assert done.of_type("sandbox_opened")[0]["network"] == "registries"
