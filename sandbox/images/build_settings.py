"""How this machine reaches its package indexes, for the time of an image build and not a moment longer.

pip settings become build arguments, the TLS bundle is copied into the build, wheel folders are served on the
loopback interface. What holds a password is left out: build arguments can be read from an image's history.
"""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sandbox.base import ImageProblem

CA_IN_CONTEXT = ".patchwright-build/ca.crt"
CA_IN_IMAGE = "/usr/local/share/patchwright/build-ca.crt"

_BUNDLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_CA_READERS = (*_BUNDLES, "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS")
_PIP = ("INDEX_URL", "EXTRA_INDEX_URL", "TRUSTED_HOST", "NO_INDEX", "DEFAULT_TIMEOUT", "RETRIES", "PRE")
_REGISTRIES = ("npm_config_registry",)
_NETWORK = "PATCHWRIGHT_BUILD_NETWORK"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")  # Docker keeps these out of the history
_PASSWORD = re.compile(r"://[^/\s]*@")
_FROM = re.compile(r"^\s*FROM\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What a build needs of this machine. `left_out` says which settings were not passed, and why."""

    arguments: dict[str, str] = field(default_factory=dict)  # to be declared with ARG
    proxies: dict[str, str] = field(default_factory=dict)  # known to every builder
    ca_bundle: Path | None = None
    wheels: tuple[Path, ...] = ()
    left_out: tuple[str, ...] = ()
    network: str = ""  # `none` or `host`; empty: whatever the kind of build has by itself


def build_settings(env: Mapping[str, str]) -> BuildSettings:
    """Read the settings from the environment. Raises ImageProblem for one that means nothing."""
    arguments = {"PIP_ROOT_USER_ACTION": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    left_out: list[str] = []
    for name in (*(f"PIP_{setting}" for setting in _PIP), *_REGISTRIES):
        if value := env.get(name):
            if _PASSWORD.search(value):
                left_out.append(f"{name} holds a password")
            elif "file:" in value:
                left_out.append(f"{name} names a folder of this machine")
            else:
                arguments[name] = value
    links = env.get("PIP_FIND_LINKS", "").split()
    wheels = tuple(Path(link).absolute() for link in links if Path(link).is_dir())
    remote = [link for link in links if link.startswith("http") and not _PASSWORD.search(link)]
    if remote:
        arguments["PIP_FIND_LINKS"] = " ".join(remote)
    bundles = (Path(env[name]) for name in _BUNDLES if env.get(name))
    bundle = next((path for path in bundles if path.is_file()), None)
    if bundle is not None:
        arguments |= dict.fromkeys(_CA_READERS, CA_IN_IMAGE)
    proxies = {name: env[name] for key in _PROXIES for name in (key, key.lower()) if env.get(name)}
    network = env.get(_NETWORK, "")
    if network not in ("", "none", "host"):
        raise ImageProblem(f"{_NETWORK} is `{network}`.\nTry: none, host, or leave it unset.")
    return BuildSettings(arguments, proxies, bundle, wheels, tuple(left_out), network)


def declare(dockerfile: str, settings: BuildSettings) -> str:
    """The Dockerfile with the settings declared at the start of every stage."""
    added = [f"ARG {name}" for name in sorted(settings.arguments)]
    if settings.ca_bundle is not None:
        added.insert(0, f"COPY {CA_IN_CONTEXT} {CA_IN_IMAGE}")
    lines: list[str] = []
    in_from = False
    for line in dockerfile.splitlines():
        lines.append(line)
        in_from = in_from or bool(_FROM.match(line))
        if in_from and not line.rstrip().endswith("\\"):
            lines += added
            in_from = False
    return "\n".join(lines) + "\n"


@contextmanager
def serving_wheels(settings: BuildSettings) -> Iterator[dict[str, str]]:
    """Serve the wheel folders on the loopback interface; gives the build arguments that point there."""
    if not settings.wheels:
        yield settings.arguments
        return
    with ExitStack() as stack:
        ports = [stack.enter_context(_served(folder)) for folder in settings.wheels]
        links = [settings.arguments.get("PIP_FIND_LINKS", ""), *(f"http://127.0.0.1:{port}/" for port in ports)]
        hosts = [settings.arguments.get("PIP_TRUSTED_HOST", ""), "127.0.0.1"]
        own = {"PIP_FIND_LINKS": " ".join(links).strip(), "PIP_TRUSTED_HOST": " ".join(hosts).strip()}
        yield settings.arguments | own


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it so)
        """Say nothing on the user's terminal."""


@contextmanager
def _served(folder: Path) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, name="wheels", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
