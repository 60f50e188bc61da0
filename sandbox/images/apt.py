"""A private apt: the machine's own mirrors and keys, but state, lists and downloads in a folder of ours.

Runs as any user and changes nothing of the host's. It resolves against an empty package database, so what it
downloads is a whole closure. Names no mirror: those come from the machine's sources.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox.base import ImageProblem
from sandbox.images.progress import Report, run_tool, step
from sandbox.images.recipe import host_suite, os_release_fields

ETC_APT = Path("/etc/apt")
# Settings of the host that say how to reach its mirrors; all others (hooks above all) stay out.
_KEPT = ("Acquire::", "APT::Architecture", "APT::Authentication::")
_DROPPED = ("Acquire::IndexTargets",)
_ONE_LINE = re.compile(r"^deb\s+(?P<options>\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<rest>.*)$")
_USERINFO = re.compile(r"://[^/\s]*@")
_NO_APT = (
    "build the image on a Debian or Ubuntu machine, copy the .tar file that it names, and give it here with "
    "`agent sandbox build --from FILE`; or use an image of your own with `--image` (with bubblewrap, "
    "`--image host` takes this machine's own programs)."
)
_CHECK_MIRRORS = "look at the lines above; `apt-get update` has to work on this machine (/etc/apt)."


@dataclass(frozen=True, slots=True)
class PrivateApt:
    """An apt whose whole state lies below `root`; `environment` makes apt-get use it."""

    root: Path
    sources: dict[str, str]  # file name -> text, as they were rewritten for the suite

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C.UTF-8"}

    @property
    def archives(self) -> Path:
        return self.root / "archives"

    def download(self, packages: Iterable[str], report: Report) -> list[Path]:
        """Download the packages with everything that they need; the .deb files, sorted by name."""
        with step("reading the mirror's package lists", report):
            run_tool(
                ["apt-get", "update", "-q"],
                what="reading the package lists",
                hint=_CHECK_MIRRORS,
                env=self.environment,
            )
        with step("downloading packages", report):
            run_tool(
                ["apt-get", "install", "-q", "-y", "--download-only", *packages],
                what="downloading packages",
                hint="check the package names and the free space; then run it again.",
                env=self.environment,
            )
        return sorted(self.archives.glob("*.deb"))


def private_apt(root: Path, suite: str) -> PrivateApt:
    """Set up a private apt for a suite below `root` (created), from the machine's configuration."""
    settings = run_tool(["apt-config", "dump"], what="reading this machine's apt settings", hint=_NO_APT)
    sources = suite_sources(host_sources(), host_suite(), suite)
    if not sources:
        raise ImageProblem(
            f"no apt source of this machine is for `{suite}` ({ETC_APT}/sources.list, sources.list.d).\n"
            f"Try: `--suite` with this machine's own release, or add a source for {suite}."
        )
    for folder in ("lists/partial", "archives/partial", "sources.list.d", "none"):
        (root / folder).mkdir(parents=True)
    (root / "status").touch()
    for name, text in sources.items():
        (root / "sources.list.d" / name).write_text(text, encoding="utf-8")
    (root / "preferences").write_text(_prefer_distribution(), encoding="utf-8")
    (root / "apt.conf").write_text(_configuration(root, settings), encoding="utf-8")
    return PrivateApt(root, sources)


def host_sources(etc: Path = ETC_APT) -> dict[str, str]:
    """The machine's apt source files: name -> text."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    wanted = [file for file in files if file.suffix in (".list", ".sources") and file.is_file()]
    return {file.name: file.read_text(encoding="utf-8", errors="replace") for file in wanted}


def suite_sources(sources: dict[str, str], own: str, suite: str) -> dict[str, str]:
    """The binary-package sources for `suite`, from those that a machine of release `own` has for itself.

    Only entries for the machine's own release are taken (not a vendor's repository with a suite of its own).
    """
    rewritten = {
        name: _deb822(text, own, suite) if name.endswith(".sources") else _one_line(text, own, suite)
        for name, text in sources.items()
    }
    return {name: text for name, text in rewritten.items() if text}


def without_credentials(sources: dict[str, str]) -> dict[str, str]:
    """The source files that hold no user name or password in an address: those that may go into an image."""
    return {name: text for name, text in sources.items() if not _USERINFO.search(text)}


def _renamed(token: str, own: str, suite: str) -> str | None:
    """`bookworm-updates` for another release, None for a suite that isn't of the machine's own release."""
    if token == own or token.startswith((f"{own}-", f"{own}/")):
        return suite + token[len(own) :]
    return token if token == suite or token.startswith(f"{suite}-") else None


def _one_line(text: str, own: str, suite: str) -> str:
    lines = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        name = match and _renamed(match["suite"], own, suite)
        if match and name:
            lines.append(f"deb {match['options'] or ''}{match['uri']} {name} {match['rest']}".rstrip())
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def _deb822(text: str, own: str, suite: str) -> str:
    stanzas = []
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if line.strip() and not line.startswith("#")]
        fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines if line[0] != " "}
        off = fields.get("enabled", "yes").lower() in ("no", "false", "0")
        if off or "deb" not in fields.get("types", "").split():
            continue
        names = [name for token in fields.get("suites", "").split() if (name := _renamed(token, own, suite))]
        if names:
            changed = {"suites": "Suites: " + " ".join(dict.fromkeys(names)), "types": "Types: deb"}
            stanzas.append("\n".join(changed.get(line.partition(":")[0].lower(), line) for line in lines) + "\n")
    return "\n".join(stanzas)


def _prefer_distribution() -> str:
    """A third party's repository for the same release must not replace the distribution's own packages."""
    origin = os_release_fields().get("ID", "debian").capitalize()
    return f"Package: *\nPin: release o={origin}\nPin-Priority: 900\n"


def _configuration(root: Path, host_settings: str) -> str:
    kept = [line for line in host_settings.splitlines() if line.startswith(_KEPT) and not line.startswith(_DROPPED)]
    own = {
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",  # the account _apt can't write to a private folder
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Dir::State": root,
        "Dir::State::status": root / "status",
        "Dir::State::lists": root / "lists",
        "Dir::Cache": root,
        "Dir::Cache::archives": root / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Etc::main": root / "none" / "apt.conf",
        "Dir::Etc::parts": root / "none",
        "Dir::Etc::sourcelist": root / "none" / "sources.list",
        "Dir::Etc::sourceparts": root / "sources.list.d",
        "Dir::Etc::preferences": root / "preferences",
        "Dir::Etc::preferencesparts": root / "none",
        "Dir::Log": root / "none",
    }
    return "".join(f"{line}\n" for line in [*kept, *(f'{name} "{value}";' for name, value in own.items())])
