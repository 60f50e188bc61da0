"""Pictures of a prompt: how they travel, and how many tokens a server will make of one.

Qwen's vision models take 32 x 32 pixels as one token, after scaling a picture to between 65,536 and 16,777,216
pixels; these bounds are those of the processor that comes with Qwen3-VL and its successors. A server may set lower
ones, so the numbers here are upper bounds. Only sizes are read from the files. Left out: decoding and scaling.
"""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from typing import Final

from runtime.models.base import Image

_SIDE: Final = 32  # pixels of a token's square
_FEWEST: Final = 65_536 // _SIDE**2
_MOST: Final = 16_777_216 // _SIDE**2
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of segments that hold the size


@lru_cache(maxsize=32)
def data_url(image: Image) -> str:
    """The picture as `data:image/png;base64,...`; kept, because every request of a run sends it again."""
    return f"data:{image.media_type};base64,{b64encode(image.data).decode()}"


@lru_cache(maxsize=256)
def most_tokens(image: Image) -> int:
    """At most so many tokens stand for the picture in the prompt; for a file of no known kind, the most there are."""
    size = size_of(image.data)
    if size is None:
        return _MOST
    width, height = (-(-side // _SIDE) for side in size)
    # Scaling keeps the ratio of the sides and rounds each, so a little more than the bounds may come out.
    return min(max(width * height, _FEWEST + width + height), _MOST)


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF, WebP or JPEG file; None for anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + length
    return None
