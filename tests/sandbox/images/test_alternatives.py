"""What a package's script would offer as alternatives is read from it, without running it."""

from __future__ import annotations

import pytest

from sandbox.images.dpkg_database import Alternative, Package

SLAVES = """ver=1.16
prio=11
update-alternatives --install /usr/bin/automake automake \\
    /usr/bin/automake-$ver ${prio} \\
    --slave /usr/bin/aclocal aclocal /usr/bin/aclocal-$ver \\
    --slave \\
        /usr/share/man/man1/automake.1.gz \\
        automake.1.gz \\
        /usr/share/man/man1/automake-$ver.1.gz
"""


@pytest.mark.parametrize(
    ("script", "offers"),
    [
        ("update-alternatives --quiet --install /usr/bin/cc cc /usr/bin/gcc 20", [("cc", "/usr/bin/gcc", 0)]),
        (SLAVES, [("automake", "/usr/bin/automake-1.16", 2)]),
        ("for i in a b; do\nupdate-alternatives --install /usr/bin/$i $i /usr/lib/$i 5\ndone", []),
        ("version=$1\nupdate-alternatives --install /usr/bin/x x /usr/bin/x-$version 5", []),
        ("update-alternatives --remove x /usr/bin/x", []),
    ],
)
def test_offers(script: str, offers: list[tuple[str, str, int]]) -> None:
    found = Package("Package: x", {"postinst": script.encode()}, ()).alternatives
    assert [(one.name, one.path, len(one.slaves)) for one in found] == offers


def test_what_is_switched_along() -> None:
    (found,) = Package("Package: x", {"postinst": SLAVES.encode()}, ()).alternatives
    assert found == Alternative(
        "/usr/bin/automake", "automake", "/usr/bin/automake-1.16", "11",
        (("/usr/bin/aclocal", "aclocal", "/usr/bin/aclocal-1.16"),
         ("/usr/share/man/man1/automake.1.gz", "automake.1.gz", "/usr/share/man/man1/automake-1.16.1.gz")),
    )  # fmt: skip
