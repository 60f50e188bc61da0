"""Whether a delivery comes from who knows the webhook's secret. Nothing of it is looked at before.

Left out: SHA-1 signatures, which GitHub sends beside the others; a delivery that has only one of those is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

_SIGNATURE = re.compile(r"sha256=([0-9a-f]{64})", re.ASCII)


def sign(secret: bytes, body: bytes) -> str:
    """The value of `X-Hub-Signature-256` for a body."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def well_formed(header: str | None) -> bool:
    """Whether a header could be a signature at all: what isn't one needs no body to be refused."""
    return header is not None and _SIGNATURE.fullmatch(header) is not None


def verify(secrets: Sequence[bytes], body: bytes, header: str | None) -> bool:
    """Whether one of the secrets signed exactly these bytes.

    Two secrets hold while one is replaced by another. All are tried whatever the first says, and each is compared in
    constant time, so that the time taken tells nothing about them. Empty secrets sign nothing.
    """
    if header is None or not well_formed(header):
        return False
    good = False
    for secret in secrets:
        fits = hmac.compare_digest(sign(secret, body), header)
        good |= fits and bool(secret)
    return good
