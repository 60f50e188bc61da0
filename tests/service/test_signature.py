"""A signature holds for exactly the bytes and the secrets that it was made with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.webhooks import sign, verify

SECRET = b"It's a Secret to Everybody"


def test_the_example_of_githubs_documentation() -> None:
    documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert sign(SECRET, b"Hello, World!") == documented
    assert verify([SECRET], b"Hello, World!", documented)


def test_two_secrets_hold_while_one_replaces_the_other() -> None:
    for secret in (b"old", b"new"):
        assert verify([b"new", b"old"], b"{}", sign(secret, b"{}"))
    assert not verify([b"new"], b"{}", sign(b"old", b"{}"))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        sign(SECRET, b"{}").upper(),
        sign(SECRET, b"{}") + "\n",
        sign(SECRET, b"{}").replace("sha256", "sha1"),
        sign(SECRET, b"{}")[:-1],
        "sha256=" + "é" * 64,
        "sha1=" + "0" * 40,
    ],
)
def test_what_is_no_signature_is_refused(header: str | None) -> None:
    assert not verify([SECRET], b"{}", header)


def test_an_empty_secret_signs_nothing() -> None:
    assert not verify([b""], b"{}", sign(b"", b"{}"))
    assert not verify([], b"{}", sign(b"", b"{}"))


@given(body=st.binary(max_size=200), place=st.integers(min_value=0), change=st.integers(1, 255))
def test_another_byte_breaks_it(body: bytes, place: int, change: int) -> None:
    good = sign(SECRET, body)
    assert verify([SECRET], body, good)
    if body:
        place %= len(body)
        other = body[:place] + bytes([body[place] ^ change]) + body[place + 1 :]
        assert not verify([SECRET], other, good)
    assert not verify([SECRET], body + b" ", good)
