"""What the base image is made of, and how this machine's package sources are turned into those for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.base import ImageProblem
from sandbox.images.apt import private_apt, suite_sources, without_credentials
from sandbox.images.recipe import DEFAULT_PACKAGES, host_suite, recipe

DEB822 = """\
# the mirror
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: https://vendor.example/apt
Suites: nodistro
Components: main

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no
"""
ONE_LINE = """\
deb [signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian bookworm main contrib
deb-src http://mirror.example/debian bookworm main
# deb http://old.example/debian bookworm main
deb http://mirror.example/security bookworm-security main
deb https://vendor.example/apt stable main
"""


def test_the_digest_names_suite_and_packages_but_not_their_order() -> None:
    assert recipe("bookworm").digest == recipe("bookworm", ["git"]).digest
    assert recipe("bookworm", ["gcc", "jq"]).digest == recipe("bookworm", ["jq", "gcc", "gcc"]).digest
    assert len({recipe("bookworm").digest, recipe("trixie").digest, recipe("bookworm", ["jq"]).digest}) == 3
    assert set(DEFAULT_PACKAGES) < set(recipe("bookworm", ["jq"]).packages)


@pytest.mark.parametrize("name", ["-x", "--allow", "a b", "", "Git", "../x", "x;y"])
def test_what_is_no_package_name_never_reaches_apt(name: str) -> None:
    with pytest.raises(ImageProblem, match="package name"):
        recipe("bookworm", [name])


@pytest.mark.parametrize("suite", ["-t", "Book worm", "../x"])
def test_what_is_no_suite_never_reaches_apt(suite: str) -> None:
    with pytest.raises(ImageProblem, match="suite name"):
        recipe(suite)


def test_the_suite_is_the_machines_own(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_CODENAME="forky"\n')
    assert host_suite(release) == "forky"
    assert host_suite(tmp_path / "missing") == "bookworm"


def test_deb822_sources_keep_keys_and_lose_vendors_and_source_packages() -> None:
    found = suite_sources({"debian.sources": DEB822}, "bookworm", "bookworm")["debian.sources"]
    assert found.count("Types: deb\n") == 1 and "deb-src" not in found
    assert "Suites: bookworm bookworm-updates\n" in found
    assert " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n" in found
    assert "vendor.example" not in found and "off.example" not in found


def test_one_line_sources() -> None:
    assert suite_sources({"sources.list": ONE_LINE}, "bookworm", "bookworm") == {
        "sources.list": "deb [signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian bookworm main contrib\n"
        "deb http://mirror.example/security bookworm-security main\n"
    }


def test_another_release_has_the_same_mirrors() -> None:
    sources = {"a.list": ONE_LINE, "b.sources": DEB822}
    found = suite_sources(sources, "bookworm", "trixie")
    assert "mirror.example/debian trixie main contrib\n" in found["a.list"]
    assert "mirror.example/security trixie-security main\n" in found["a.list"]
    assert "Suites: trixie trixie-updates\n" in found["b.sources"]
    assert "bookworm" not in "".join(found.values())


def test_no_source_for_the_suite_is_an_error_that_says_so(tmp_path: Path) -> None:
    assert suite_sources({"vendor.list": "deb https://vendor.example/apt stable main\n"}, "bookworm", "bookworm") == {}


def test_a_password_never_gets_into_an_image() -> None:
    sources = {"a.list": "deb https://me:secret@mirror.example/ bookworm main\n", "b.list": ONE_LINE}
    assert without_credentials(sources) == {"b.list": ONE_LINE}


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="no apt on this machine")
def test_the_private_apt_touches_nothing_of_the_hosts(tmp_path: Path) -> None:
    apt = private_apt(tmp_path / "apt", host_suite())
    seen = subprocess.run(
        ["apt-config", "dump"], env=apt.environment, capture_output=True, text=True, check=True
    ).stdout
    settings = dict(line.rstrip(";").split(" ", 1) for line in seen.splitlines() if " " in line)
    assert "Post-Invoke" not in seen and "Pre-Install-Pkgs" not in seen
    for name in ("Dir::State", "Dir::State::status", "Dir::State::lists", "Dir::Cache::archives"):
        assert settings[name].strip('"').startswith(str(tmp_path))
    assert Path(settings["Dir::State::status"].strip('"')).read_text() == ""
