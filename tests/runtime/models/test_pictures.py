"""Sizes of pictures, read off the heads of files that were made here byte by byte."""

from __future__ import annotations

import struct

import pytest

from runtime.models.base import Image
from runtime.models.pictures import data_url, most_tokens

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 640, 320)
GIF = b"GIF89a" + struct.pack("<HH", 640, 320)
JPEG = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2\0\x11\x08" + struct.pack(">HH", 320, 640) + b"\3\1"
LOSSY = b"RIFF....WEBPVP8 ....\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640, 320)
LOSSLESS = b"RIFF....WEBPVP8L....\x2f" + struct.pack("<I", 639 | 319 << 14) + b"....."
EXTENDED = b"RIFF....WEBPVP8X....\0\0\0\0" + (639).to_bytes(3, "little") + (319).to_bytes(3, "little")
FILES = {"png": PNG, "gif": GIF, "jpeg": JPEG, "lossy": LOSSY, "lossless": LOSSLESS, "extended": EXTENDED}


@pytest.mark.parametrize("name", FILES)
def test_a_square_of_32_pixels_is_a_token(name: str) -> None:
    assert most_tokens(Image(FILES[name], "image/x")) == 20 * 10


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_or_unknown_counts_as_the_largest(name: str) -> None:
    for length in range(len(FILES[name]) - 8):
        assert most_tokens(Image(FILES[name][:length], "image/x")) == 16384
    assert most_tokens(Image(b"<svg>", "image/svg+xml")) == 16384


def test_bounds() -> None:
    def png(width: int, height: int) -> Image:
        return Image(PNG[:16] + struct.pack(">II", width, height), "image/png")

    assert 64 <= most_tokens(png(1, 1)) < 70
    assert most_tokens(png(100_000, 100_000)) == 16384
    assert most_tokens(png(33, 3300)) == 2 * 104


def test_the_url_of_a_picture() -> None:
    assert data_url(Image(b"ab", "image/png")) == "data:image/png;base64,YWI="
