"""Which files a model may be shown as pictures, decided from their first bytes.

What a picture is, is read from its bytes and never from its name; nothing here decodes it, and nothing on this
machine does. Bounds keep one picture from filling a context, and all of them from filling every request, since each
carries them again. Left out: how a picture travels (`runtime.models.pictures`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runtime.models.base import Image
from runtime.models.pictures import most_tokens, size_of

MOST_BYTES: Final = 8 << 20  # of one picture
MOST_PIXELS: Final = 40_000_000  # a server decodes what it is sent
MOST_PICTURES: Final = 16  # in one run
MOST_BYTES_OF_ALL: Final = 24 << 20  # in one run
_MOST_RATIO: Final = 200  # of the sides; Qwen's processor refuses more

_KINDS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
KIND_NAMES: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WebP"}


class NotAPicture(ValueError):
    """Bytes that can't be shown; the text says why, to go behind the name of the file."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that can be shown. Sizes in pixels."""

    image: Image
    width: int
    height: int

    @property
    def tokens(self) -> int:
        """What it takes of a context, at most."""
        return most_tokens(self.image)

    def __str__(self) -> str:
        size = len(self.image.data)
        return f"{KIND_NAMES[self.image.media_type]}, {self.width} x {self.height} pixels, {size:,} bytes"


def picture_of(data: bytes) -> Picture:
    """The picture that a file's bytes are. Raises NotAPicture."""
    if len(data) > MOST_BYTES:
        raise NotAPicture(f"has more than {MOST_BYTES >> 20} MiB; make a smaller copy of it and view that")
    kind = next((kind for magic, kind in _KINDS if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise NotAPicture("is no picture of a kind that can be shown (PNG, JPEG, GIF, WebP)")
    size = size_of(data)
    if size is None or min(size) < 1:
        raise NotAPicture(f"begins as a {KIND_NAMES[kind]} file, but no size can be read in it; it may be damaged")
    width, height = size
    if width * height > MOST_PIXELS:
        raise NotAPicture(f"has {width} x {height} pixels, more than can be shown; make a smaller copy and view that")
    if max(size) > min(size) * _MOST_RATIO:
        raise NotAPicture(f"is {width} x {height} pixels, too long for its width; cut out the part that matters")
    return Picture(Image(data, kind), width, height)


def no_room(pictures: int, total: int, more: int) -> str | None:
    """Why a picture of `more` bytes can't join those that were shown; None if it can."""
    if pictures >= MOST_PICTURES:
        return f"{pictures} pictures were shown in this run, which is as many as there may be"
    if total + more > MOST_BYTES_OF_ALL:
        return f"the pictures of this run would have more than {MOST_BYTES_OF_ALL >> 20} MiB together"
    return None
