"""Which distribution packages the libraries are that C and C++ sources use: a table, and how it is looked up.

Debian's names. A header that the repository has itself needs no package. What isn't in the table isn't installed:
the build then fails with the header's name, and `[sandbox] packages` takes what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from sandbox.images.detect.base import Evidence
from sandbox.images.detect.tree import Tree

COMPILER = ("g++", "gcc", "libc6-dev", "make", "pkg-config")
C_SUFFIXES = (".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh")
MAX_SOURCES = 3000  # files that are searched for #include lines

# The start of a header's path -> package
HEADERS: dict[str, str] = {
    "alsa/": "libasound2-dev", "archive.h": "libarchive-dev", "blas": "libopenblas-dev",
    "boost/": "libboost-all-dev", "brotli/": "libbrotli-dev", "bzlib.h": "libbz2-dev", "cairo": "libcairo2-dev",
    "catch2/": "catch2", "cblas.h": "libopenblas-dev", "curl/": "libcurl4-openssl-dev", "db.h": "libdb-dev",
    "Eigen/": "libeigen3-dev", "eigen3/": "libeigen3-dev", "ev.h": "libev-dev", "event2/": "libevent-dev",
    "expat.h": "libexpat1-dev", "ffi.h": "libffi-dev", "fftw3.h": "libfftw3-dev", "fmt/": "libfmt-dev",
    "freetype2/": "libfreetype-dev", "ft2build.h": "libfreetype-dev", "fuse.h": "libfuse-dev",
    "gflags/": "libgflags-dev", "glib.h": "libglib2.0-dev", "glog/": "libgoogle-glog-dev", "gmock/": "libgmock-dev",
    "gmp.h": "libgmp-dev", "gmpxx.h": "libgmp-dev", "gnutls/": "libgnutls28-dev", "grpcpp/": "libgrpc++-dev",
    "gsl/gsl_": "libgsl-dev", "gssapi": "libkrb5-dev", "gtest/": "libgtest-dev", "hdf5.h": "libhdf5-dev",
    "hiredis/": "libhiredis-dev", "jansson.h": "libjansson-dev", "jpeglib.h": "libjpeg-dev",
    "json-c/": "libjson-c-dev", "krb5.h": "libkrb5-dev", "lapacke.h": "liblapacke-dev", "lber.h": "libldap-dev",
    "ldap.h": "libldap-dev", "libpq-fe.h": "libpq-dev", "libxml/": "libxml2-dev", "libxslt/": "libxslt1-dev",
    "lua.h": "liblua5.4-dev", "lz4.h": "liblz4-dev", "lzma.h": "liblzma-dev", "lzo/": "liblzo2-dev",
    "magic.h": "libmagic-dev", "mpfr.h": "libmpfr-dev", "mysql.h": "default-libmysqlclient-dev",
    "mysql/": "default-libmysqlclient-dev", "ncurses.h": "libncurses-dev", "curses.h": "libncurses-dev",
    "nlohmann/": "nlohmann-json3-dev", "numa.h": "libnuma-dev", "oniguruma.h": "libonig-dev",
    "openssl/": "libssl-dev", "pcap.h": "libpcap-dev", "pcap/": "libpcap-dev", "pcre.h": "libpcre3-dev",
    "pcre2.h": "libpcre2-dev", "png.h": "libpng-dev", "popt.h": "libpopt-dev", "portaudio.h": "portaudio19-dev",
    "pybind11/": "pybind11-dev", "readline/": "libreadline-dev", "sasl/": "libsasl2-dev", "SDL2/": "libsdl2-dev",
    "snappy-c.h": "libsnappy-dev", "snappy.h": "libsnappy-dev", "sodium.h": "libsodium-dev",
    "spdlog/": "libspdlog-dev", "sql.h": "unixodbc-dev", "sqlext.h": "unixodbc-dev", "sqlite3.h": "libsqlite3-dev",
    "termcap.h": "libncurses-dev", "tiffio.h": "libtiff-dev", "uuid/": "uuid-dev", "uv.h": "libuv1-dev",
    "webp/": "libwebp-dev", "X11/": "libx11-dev", "xxhash.h": "libxxhash-dev", "yaml.h": "libyaml-dev",
    "zlib.h": "zlib1g-dev", "zmq.h": "libzmq3-dev", "zstd.h": "libzstd-dev", "check.h": "check",
    "cmocka.h": "libcmocka-dev", "criterion/": "libcriterion-dev", "doctest/": "doctest-dev",
}  # fmt: skip

# find_package(), pkg-config and -l names -> package
LIBRARIES: dict[str, str] = {
    "benchmark": "libbenchmark-dev", "boost": "libboost-all-dev", "bz2": "libbz2-dev", "bzip2": "libbz2-dev",
    "catch2": "catch2", "check": "check", "cmocka": "libcmocka-dev", "curl": "libcurl4-openssl-dev",
    "doctest": "doctest-dev", "eigen3": "libeigen3-dev", "expat": "libexpat1-dev", "ffi": "libffi-dev",
    "fmt": "libfmt-dev", "freetype": "libfreetype-dev", "freetype2": "libfreetype-dev", "glib-2.0": "libglib2.0-dev",
    "gmp": "libgmp-dev", "gtest": "libgtest-dev", "gmock": "libgmock-dev", "hdf5": "libhdf5-dev",
    "jansson": "libjansson-dev", "jpeg": "libjpeg-dev", "json-c": "libjson-c-dev", "libcurl": "libcurl4-openssl-dev",
    "libffi": "libffi-dev", "libpng": "libpng-dev", "libssl": "libssl-dev", "libuv": "libuv1-dev",
    "libxml-2.0": "libxml2-dev", "libxml2": "libxml2-dev", "libxslt": "libxslt1-dev", "libzstd": "libzstd-dev",
    "lz4": "liblz4-dev", "liblz4": "liblz4-dev", "lzma": "liblzma-dev", "liblzma": "liblzma-dev",
    "ncurses": "libncurses-dev", "curses": "libncurses-dev", "nlohmann_json": "nlohmann-json3-dev",
    "openblas": "libopenblas-dev", "blas": "libopenblas-dev", "lapack": "libopenblas-dev", "openssl": "libssl-dev",
    "pcre2": "libpcre2-dev", "libpcre2-8": "libpcre2-dev", "png": "libpng-dev", "postgresql": "libpq-dev",
    "pq": "libpq-dev", "protobuf": "libprotobuf-dev", "pybind11": "pybind11-dev", "readline": "libreadline-dev",
    "snappy": "libsnappy-dev", "sodium": "libsodium-dev", "libsodium": "libsodium-dev", "spdlog": "libspdlog-dev",
    "sqlite3": "libsqlite3-dev", "ssl": "libssl-dev", "crypto": "libssl-dev", "tiff": "libtiff-dev",
    "uuid": "uuid-dev", "uv": "libuv1-dev", "xml2": "libxml2-dev", "xslt": "libxslt1-dev", "yaml": "libyaml-dev",
    "yaml-0.1": "libyaml-dev", "yaml-cpp": "libyaml-cpp-dev", "z": "zlib1g-dev", "zlib": "zlib1g-dev",
    "zmq": "libzmq3-dev", "zeromq": "libzmq3-dev", "libzmq": "libzmq3-dev", "zstd": "libzstd-dev",
    "cppunit": "libcppunit-dev", "gsl": "libgsl-dev", "fftw3": "libfftw3-dev", "libevent": "libevent-dev",
}  # fmt: skip

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]+)[>\"]", re.MULTILINE)
_NAMED = re.compile(
    r"find_package\s*\(\s*([\w.+-]+)|pkg_check_modules\s*\(\s*\w+\s+(?:REQUIRED\s+|IMPORTED_TARGET\s+)*([\w.+-]+)"
    r"|dependency\s*\(\s*'([\w.+-]+)'|PKG_CHECK_MODULES\s*\(\s*\[?\w+\]?\s*,\s*\[?\s*([\w.+-]+)"
    r"|AC_CHECK_LIB\s*\(\s*\[?([\w.+-]+)|(?<![\w/-])-l([\w.+-]+)",
    re.IGNORECASE,
)
_PYTHON_LIBRARIES = re.compile(r"\blibraries\s*=\s*\[([^\]]*)\]")


def header_packages(tree: Tree, sources: Iterable[str]) -> tuple[Evidence, ...]:
    """The packages of the headers that these sources include; one line each, in the order of the packages."""
    own = {PurePosixPath(name).name for name in tree.match(*(f"*{suffix}" for suffix in C_SUFFIXES))}
    found: dict[str, Evidence] = {}
    for name in list(sources)[:MAX_SOURCES]:
        for header in _INCLUDE.findall(tree.text(name)):
            package = _package_of(header)
            if package and package not in found and PurePosixPath(header).name not in own:
                found[package] = Evidence(name, f"includes <{header}>", f"package {package}")
    return tuple(found[package] for package in sorted(found))


def library_packages(tree: Tree, files: Iterable[str]) -> tuple[Evidence, ...]:
    """The packages of the libraries that build files name."""
    found: dict[str, Evidence] = {}
    for name in files:
        text = tree.text(name)
        listed = " ".join(_PYTHON_LIBRARIES.findall(text))
        words = [next(filter(None, match)) for match in _NAMED.findall(text)]
        for word in [*words, *re.findall(r"['\"]([\w.+-]+)['\"]", listed)]:
            package = LIBRARIES.get(word.lower())
            if package and package not in found:
                found[package] = Evidence(name, f"needs {word}", f"package {package}")
    return tuple(found[package] for package in sorted(found))


def packages_in(evidence: Iterable[Evidence]) -> tuple[str, ...]:
    """The package names that such lines chose."""
    return tuple(sorted({line.chosen.removeprefix("package ") for line in evidence}))


def _package_of(header: str) -> str:
    return next((package for start, package in HEADERS.items() if header.startswith(start)), "")
