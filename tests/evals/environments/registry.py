"""A registry of images on loopback, for a real engine to pull from: it can limit how often, and have no image."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import platform
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(slots=True)
class Registry:
    """What it holds and does. `limited`: how many requests for a manifest are still refused, and with what words."""

    port: int = 0
    limited: int = 0
    words: str = "You have reached your pull rate limit"
    manifests: dict[str, bytes] = field(default_factory=dict)  # by repository
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # repositories whose manifest was asked for

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def add(self, repository: str, files: Mapping[str, bytes]) -> None:
        """An image of one layer with these files."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o755
                tar.addfile(member, io.BytesIO(content))
        layer = gzip.compress(packed.getvalue(), mtime=0)
        config = {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(packed.getvalue())]},
        }
        parts = [self._blob(json.dumps(config).encode(), _CONFIG), self._blob(layer, _LAYER)]
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": parts[0], "layers": parts[1:]}
        self.manifests[repository] = json.dumps(manifest).encode()

    def _blob(self, content: bytes, kind: str) -> dict[str, Any]:
        self.blobs[_digest(content)] = content
        return {"mediaType": kind, "size": len(content), "digest": _digest(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@contextmanager
def serving() -> Iterator[Registry]:
    """A registry that answers while this is open."""
    registry = Registry()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, rest = self.path.partition("/v2/")
            repository, kind, name = (*rest.rsplit("/", 2), "", "")[:3]
            if kind == "manifests":
                self._manifest(repository)
            elif kind == "blobs" and name in registry.blobs:
                self._answer(200, registry.blobs[name], "application/octet-stream")
            else:
                self._answer(200 if not rest else 404, b"{}", "application/json")

        do_HEAD = do_GET

        def _manifest(self, repository: str) -> None:
            registry.asked.append(repository)
            if registry.limited > 0:
                registry.limited -= 1
                self._refuse(429, "TOOMANYREQUESTS", registry.words)
            elif (manifest := registry.manifests.get(repository)) is None:
                self._refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            else:
                self._answer(200, manifest, _MANIFEST)

        def _refuse(self, status: int, code: str, words: str) -> None:
            body = json.dumps({"errors": [{"code": code, "message": words}]}).encode()
            self._answer(status, body, "application/json")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Docker-Content-Digest", _digest(body))
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  (its name in the base class)
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
