"""Names of published images, and what a failed pull is about."""

from __future__ import annotations

import pytest

from evals.environments.published import ImageNames, NameBroken, is_foreign, registry_of, workdir_of
from evals.environments.pull import (
    FIRST_WAIT,
    LONGEST_WAIT,
    Layers,
    Limiter,
    PullFailed,
    Trouble,
    asked_wait,
    trouble_in,
    worst,
)
from tests.evals.environments.rows import instance

PLAIN = ImageNames()


def test_an_instance_of_swe_bench_has_the_official_name() -> None:
    names = PLAIN.of(instance("django__django-11099"), "amd64")
    assert names == ("swebench/sweb.eval.x86_64.django_1776_django-11099:latest",)
    assert PLAIN.of(instance("Acme__Lib-1"), "x86_64") == ("swebench/sweb.eval.x86_64.acme_1776_lib-1:latest",)
    assert PLAIN.of(instance(), "aarch64") == ("swebench/sweb.eval.arm64.acme_1776_lib-1:latest",)


def test_a_rows_own_image_goes_first_and_gets_a_tag() -> None:
    row = instance(image="swebench/own", eval_script="x", log_parser="p", eval_type="")
    assert PLAIN.of(row, "x86_64") == ("swebench/own:latest", "swebench/sweb.eval.x86_64.acme_1776_lib-1:latest")
    pinned = instance(image="reg.example:5000/a@sha256:00", eval_script="x", log_parser="p")
    assert PLAIN.of(pinned, "x86_64")[0] == "reg.example:5000/a@sha256:00"
    assert PLAIN.of(instance(image="reg.example:5000/a", eval_script="x", log_parser="p"), "x86_64")[0] == (
        "reg.example:5000/a:latest"
    )


def test_rows_of_other_sets_have_only_their_own_image() -> None:
    smith = instance(image_name="org/image", base_commit=None)
    assert PLAIN.of(smith, "x86_64") == ("org/image:latest",)
    pro = instance(dockerhub_tag="acme.lib-abc", fail_to_pass=["t"])
    assert PLAIN.of(pro, "x86_64") == ("jefzda/sweap-images:acme.lib-abc",)
    assert workdir_of(pro) == "/app"
    assert workdir_of(smith) is None


def test_patterns_and_a_mirror() -> None:
    patterns = ("ghcr.io/org/eval.{arch}.{id}", "me/{id_s}:v1")
    names = ImageNames.read(patterns, "mirror.example/hub/")
    assert names.of(instance("A__b-1"), "arm64") == (
        "ghcr.io/org/eval.arm64.a__b-1:latest",
        "mirror.example/hub/me/a_s_b-1:v1",
    )
    with pytest.raises(NameBroken, match=r"known are \{arch\}"):
        ImageNames.read(("x/{who}",))
    with pytest.raises(NameBroken):
        ImageNames.read(("x/{",))


def test_patterns_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_EVAL_IMAGES", "a/{id}  b/{id}")
    assert ImageNames.read().patterns == ("a/{id}", "b/{id}")
    assert ImageNames.read(("c/{id}",)).patterns == ("c/{id}",)


@pytest.mark.parametrize(
    ("name", "host"),
    [("a", "docker.io"), ("a/b", "docker.io"), ("localhost/a", "localhost"), ("reg:5000/a", "reg:5000"),
     ("ghcr.io/a/b", "ghcr.io")],
)  # fmt: skip
def test_the_registry_that_a_name_means(name: str, host: str) -> None:
    assert registry_of(name) == host


def test_an_image_for_another_processor_is_known_by_its_name() -> None:
    assert is_foreign("swebench/sweb.eval.x86_64.a:latest", "aarch64")
    assert not is_foreign("swebench/sweb.eval.x86_64.a:latest", "amd64")
    assert not is_foreign("org/image:latest", "aarch64")


_LOGIN = "pull access denied for x, repository does not exist or may require 'docker login'"
# What engines and registries were seen to say, in public issues and here.
SAID = [
    ("toomanyrequests: You have reached your pull rate limit. You may increase the limit", Trouble.RATE),
    ("toomanyrequests: retry-after: 880.092µs, allowed: 44000/minute", Trouble.RATE),
    ("toomanyrequests: Rate exceeded", Trouble.RATE),
    ("429 Too Many Requests - Server message: You have reached your unauthenticated limit", Trouble.RATE),
    (f"{_LOGIN}: denied: Request exceeded pull rate limit for IP 1.2.3.4", Trouble.RATE),
    ("write /var/lib/docker/tmp/x: no space left on device", Trouble.DISK),
    ("no matching manifest for linux/arm64/v8 in the manifest list entries", Trouble.FOREIGN),
    ("manifest for swebench/x:latest not found: manifest unknown: manifest unknown", Trouble.MISSING),
    (_LOGIN, Trouble.MISSING),
    ('Get "https://reg.example/v2/": dial tcp: lookup reg.example: no such host', Trouble.UNREACHABLE),
    ("net/http: TLS handshake timeout", Trouble.UNREACHABLE),
    ("request canceled (Client.Timeout exceeded while awaiting headers)", Trouble.UNREACHABLE),
    ("received unexpected HTTP status: 503 Service Unavailable", Trouble.UNREACHABLE),
    ("unexpected EOF", Trouble.UNREACHABLE),
    ("something else", Trouble.OTHER),
]  # fmt: skip


@pytest.mark.parametrize(("said", "trouble"), SAID)
def test_what_an_engine_says_is_sorted(said: str, trouble: Trouble) -> None:
    assert trouble_in(said) is trouble


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("toomanyrequests: retry-after: 880.092µs, allowed: 44000/minute", 880.092e-6),
        ("Retry-After: 30", 30.0),
        ("retry-after: 1.5m", 90.0),
        ("retry_after=2h", None),
        ("retry after 20s", 20.0),
        ("try again later", None),
    ],
)
def test_a_wait_that_was_asked_for(said: str, seconds: float | None) -> None:
    assert asked_wait(said) == pytest.approx(seconds)


def test_a_limited_registry_is_left_alone_longer_each_time() -> None:
    limiter, now = Limiter(), 1000.0
    waits = []
    for _ in range(8):
        until = limiter.hold("hub", None, now=now)
        waits.append(until - now)
        assert limiter.left("hub", now=now) == until - now
        assert limiter.left("other", now=now) == 0
        now = until
        assert limiter.left("hub", now=now) == 0
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT
    limiter.passed("hub")
    assert limiter.hold("hub", None, now=now) == now + FIRST_WAIT


def test_pulls_that_were_under_way_when_it_began_dont_make_it_longer() -> None:
    limiter = Limiter()
    first = limiter.hold("hub", None, now=0.0)
    assert [limiter.hold("hub", None, now=float(second)) for second in range(1, 9)] == [first] * 8
    assert limiter.hold("hub", None, now=first) == first + 2 * FIRST_WAIT


def test_what_the_registry_asks_for_counts_but_a_second_is_the_least() -> None:
    limiter = Limiter()
    assert limiter.hold("hub", 1e-4, now=5.0) == 6.0
    assert limiter.hold("hub", 77.0, now=6.0) == 83.0


def test_progress_is_told_every_five_seconds_over_all_layers() -> None:
    layers = Layers("img")

    def event(layer: str, status: str, current: int = 0, total: int = 0) -> dict[str, object]:
        return {"id": layer, "status": status, "progressDetail": {"current": current, "total": total} if total else {}}

    mb = 1 << 20
    assert layers.seen(event("a", "Downloading", mb, 10 * mb), 0.0) == ""
    assert layers.seen(event("b", "Downloading", 2 * mb, 30 * mb), 4.9) == ""
    assert layers.seen(event("a", "Download complete"), 5.1) == "pulling img: 12 of 40 MB, 1 layers are here"
    assert layers.seen(event("c", "Already exists"), 6.0) == ""
    assert (layers.here, layers.whole) == (12 * mb, 40 * mb)


def test_of_several_failures_the_one_counts_that_says_most() -> None:
    missing, limit = PullFailed("a", "manifest unknown"), PullFailed("b", "toomanyrequests: x")
    assert worst([missing, limit]) is limit
    assert worst([missing]) is missing
    assert worst([]) is None
