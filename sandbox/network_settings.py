"""How this machine's package managers reach their indexes: read from their configuration, for sandboxes that may too.

Only addresses, host names and a certificate bundle come out of it. What holds a password isn't passed on: commands
inside could read it. Left out: image builds, which have their own rules (`sandbox.images.build_settings`).
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

# Inside, `localhost` is the sandbox's own, and clients go around a proxy for it: an index on this machine's loopback
# has this name there.
HOST_NAME = "host.internal"
_LOOPBACK = re.compile(r"(https?://)(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?=[:/,\s]|$)", re.IGNORECASE)

_PIP = {"index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL", "find-links": "PIP_FIND_LINKS"}
_PIP_FILES = ("etc/xdg/pip/pip.conf", "etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
_NPM_FILES = ("usr/etc/npmrc", "usr/local/etc/npmrc", "etc/npmrc", "~/.npmrc")
_CARGO_FILES = ("~/.cargo/config.toml", "~/.cargo/config")
_GO_FILE = "~/.config/go/env"
_UV = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
_BUNDLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_NPM_LINE = re.compile(r"^\s*((?:@[\w.-]+:)?registry|cafile)\s*=\s*\"?([^\"\s]+)", re.MULTILINE)
_APT_LINE = re.compile(r"^(?:deb|URIs:)\s.*$", re.MULTILINE)
_URL = re.compile(r"https?://[^\s\"',|]+")
_PASSWORD = re.compile(r"://[^/\s]*@")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What a sandbox's package managers need to know. `left_out` says what isn't passed on, and why."""

    places: frozenset[tuple[str, int]] = frozenset()  # host and port of every index that is configured
    variables: Mapping[str, str] | None = None  # for commands inside; never with a password
    ca_bundle: Path | None = None
    left_out: tuple[str, ...] = ()


def host_settings(env: Mapping[str, str], home: Path, root: Path = Path("/")) -> HostSettings:
    """Read them; configuration that can't be read counts as none."""
    pip = _pip(env, home, root)
    npm = _npm(env, home, root)
    go = {"GOPROXY": env.get("GOPROXY") or _go_file(home).get("GOPROXY", "")}
    uv = {name: env[name] for name in _UV if env.get(name)}
    said = {variable: pip[key] for key, variable in _PIP.items() if pip.get(key)} | go | uv
    if "registry" in npm:
        said["npm_config_registry"] = npm["registry"]
    variables, left_out = dict[str, str](), list[str]()
    for name, value in said.items():
        kept = [url for url in _URL.findall(value) if not _PASSWORD.search(url)]
        if len(kept) < len(_URL.findall(value)):
            left_out.append(f"{name} holds a password")
        if kept:
            variables[name] = ("," if name == "GOPROXY" else " ").join(kept)
    if pip.get("trusted-host"):
        variables["PIP_TRUSTED_HOST"] = " ".join(pip["trusted-host"].split())
    others = [*(value for key, value in npm.items() if key.startswith("@")), *_cargo(home), *_apt(root)]
    urls = [url for text in [*said.values(), *others] for url in _URL.findall(text)]
    urls += [_LOOPBACK.sub(rf"\g<1>{HOST_NAME}", url) for url in urls]
    variables = {name: _LOOPBACK.sub(rf"\g<1>{HOST_NAME}", value) for name, value in variables.items()}
    if HOST_NAME in variables.get("PIP_INDEX_URL", "") + variables.get("PIP_EXTRA_INDEX_URL", ""):  # without TLS
        variables["PIP_TRUSTED_HOST"] = f"{variables.get('PIP_TRUSTED_HOST', '')} {HOST_NAME}".strip()
    bundles = [*(env.get(name, "") for name in _BUNDLES), pip.get("cert", ""), npm.get("cafile", "")]
    bundle = next((Path(text) for text in bundles if text and Path(text).is_file()), None)
    return HostSettings(frozenset(filter(None, map(place, urls))), variables, bundle, tuple(left_out))


@cache
def usual_indexes() -> frozenset[tuple[str, int]]:
    """Where this machine's pip and npm go when nobody configured anything. They know it themselves, so they are asked;
    one that isn't there adds nothing."""
    return frozenset(filter(None, map(place, (*_usual_of_pip(), *_usual_of_npm()))))


def _usual_of_pip() -> Iterator[str]:
    try:
        from pip._internal.models.index import PyPI

        hosts = (str(PyPI.netloc), str(PyPI.file_storage_domain))
    except (ImportError, AttributeError):  # no pip, or one that keeps them elsewhere
        return
    yield from (f"https://{host}/" for host in hosts)


def _usual_of_npm() -> Iterator[str]:
    npm = shutil.which("npm")
    if npm is None:
        return
    command = [npm, "config", "get", "registry", "--userconfig=/nonexistent/user", "--globalconfig=/nonexistent/all"]
    env = {name: value for name, value in os.environ.items() if not name.lower().startswith("npm_config_")}
    try:  # in a folder that has no configuration of its own
        done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    yield from _URL.findall(done.stdout)


def place(url: str) -> tuple[str, int] | None:
    """Host and port of a URL; None for one that has none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (host.removesuffix("."), port) if host else None


def _files(names: tuple[str, ...], home: Path, root: Path) -> Iterator[str]:
    """The texts of those files that are there, the weakest first."""
    for name in names:
        path = home / name[2:] if name.startswith("~/") else root / name
        try:
            yield path.read_text("utf-8", "replace")
        except OSError:
            continue


def _pip(env: Mapping[str, str], home: Path, root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    own = [Path(env["PIP_CONFIG_FILE"])] if env.get("PIP_CONFIG_FILE") else []
    texts = [*_files(_PIP_FILES, home, root), *(path.read_text("utf-8", "replace") for path in own if path.is_file())]
    for text in texts:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(text)
        except configparser.Error:
            continue
        for section in ("global", "install"):
            found |= dict(parser[section]) if parser.has_section(section) else {}
    for key in (*_PIP, "trusted-host", "cert"):
        variable = "PIP_" + key.upper().replace("-", "_")
        if env.get(variable):
            found[key] = env[variable]
    return found


def _npm(env: Mapping[str, str], home: Path, root: Path) -> dict[str, str]:
    found = dict(match for text in _files(_NPM_FILES, home, root) for match in _NPM_LINE.findall(text))
    given = next((value for key, value in env.items() if key.lower() == "npm_config_registry" and value), None)
    return found | ({"registry": given} if given else {})


def _go_file(home: Path) -> dict[str, str]:
    text = next(_files((_GO_FILE,), home, home), "")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _cargo(home: Path) -> Iterator[str]:
    for text in _files(_CARGO_FILES, home, home):
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        for table, key in (("source", "registry"), ("registries", "index")):
            entries = found.get(table, {})
            yield from (str(e.get(key, "")) for e in entries.values() if isinstance(e, dict))


def _apt(root: Path) -> Iterator[str]:
    folder = root / "etc/apt"
    listed = sorted((folder / "sources.list.d").glob("*")) if (folder / "sources.list.d").is_dir() else []
    for path in (folder / "sources.list", *listed):
        if path.is_file() and path.suffix in (".list", ".sources"):
            yield from _APT_LINE.findall(path.read_text("utf-8", "replace"))


def proxy_variables(port: int) -> dict[str, str]:
    """What programs inside are told of a proxy on their own loopback; Maven and Gradle don't read the usual names."""
    url, direct = f"http://127.0.0.1:{port}", "localhost,127.0.0.1,::1"
    usual = {name: url for key in ("HTTP_PROXY", "HTTPS_PROXY") for name in (key, key.lower())}
    java = " ".join(f"-D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort={port}" for scheme in ("http", "https"))
    return {**usual, "NO_PROXY": direct, "no_proxy": direct, "MAVEN_OPTS": java, "GRADLE_OPTS": java}
