"""Picture files for tests: heads that say a size, with as many bytes behind them as are asked for. Not decodable."""

from __future__ import annotations

import struct


def png(width: int = 64, height: int = 32, size: int = 100) -> bytes:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\x00\x00\x00"
    return head.ljust(size, b"\0")


def gif(width: int = 64, height: int = 32) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 20


def jpeg(width: int = 64, height: int = 32) -> bytes:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\0" * 12
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + b"\0" * 9 + frame


def webp(width: int = 64, height: int = 32) -> bytes:
    body = b"\x10\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x40\0\0\0WEBPVP8X" + struct.pack("<I", len(body)) + body + b"\0" * 20
