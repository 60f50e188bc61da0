"""Files of the pages: styles, scripts, what is vendored. Read once; a name that isn't one of theirs is no file.

Their addresses hold a hash, so browsers keep them for good. Files of `run/static/` are at `/static/run/`. Left out: how
vendored files come here (`scripts/vendor.sh`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi import Request as Http
from fastapi.responses import Response

router = APIRouter()
_HERE: Final = Path(__file__).parent
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",  # an SVG opened by itself
}


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    kind: str
    tag: str


def _read() -> dict[str, _File]:
    found = {}
    for folder, prefix in ((_HERE / "static", ""), (_HERE / "run" / "static", "run/")):
        for path in sorted(folder.rglob("*")):
            if path.suffix in _TYPES and path.is_file():
                data = path.read_bytes()
                name = prefix + path.relative_to(folder).as_posix()
                found[name] = _File(data, _TYPES[path.suffix], hashlib.sha256(data).hexdigest()[:16])
    return found


FILES: Final = _read()


def address_of(name: str) -> str:
    """Where a file is. KeyError for none, when the template is rendered."""
    return f"/static/{name}?v={FILES[name].tag}"


@router.get("/static/{name:path}")
async def static(http: Http, name: str, v: str = "") -> Response:
    found = FILES.get(name)
    if found is None:
        raise HTTPException(404, "there is no such file")
    kept = "public, max-age=31536000, immutable" if v == found.tag else "no-cache"
    headers = {**_HEADERS, "ETag": f'"{found.tag}"', "Cache-Control": kept}
    if f'"{found.tag}"' in http.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.data, media_type=found.kind, headers=headers)
