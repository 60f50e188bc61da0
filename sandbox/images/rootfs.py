"""From downloaded packages to a root file system, as any user and without running a maintainer script.

The packages are unpacked side by side; what their scripts would do that matters in a sandbox is done here:
accounts, merged /usr, alternatives, TLS roots, the loader's cache, compiled Python. What is left out: services,
locales, manuals, PAM, set-uid programs (the sandbox grants no privileges that they could use).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox.base import ImageProblem
from sandbox.images.dpkg_database import Package, read_package, write_database
from sandbox.images.progress import Report, failure, run_tool, step
from sandbox.policy import GID, HOME, UID, USER, SandboxSpec

AGENT_HOME = HOME.lstrip("/")
WORKSPACE = SandboxSpec().workdir.lstrip("/")
_MERGED = ("bin", "sbin", "lib", "lib64")
_UNWANTED = ("man", "locale", "info", "lintian", "bug")
_FOLDERS = ("mnt", "media", "opt", "srv", "usr/local/bin", "usr/local/lib", "usr/local/sbin", "var/local", WORKSPACE)
_PERMISSIONS = "check the free space of the cache folder (PATCHWRIGHT_CACHE moves it); then run it again."


def build_tree(tree: Path, debs: Sequence[Path], report: Report) -> None:
    """Make `tree` (a new folder) a root file system of these packages. Raises ImageProblem."""
    for name in _MERGED:
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    with step(f"unpacking {len(debs)} packages", report), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        packages = list(pool.map(lambda deb: _unpack(deb, tree), debs))
    with step("setting up the tree", report):
        write_database(tree, packages)
        _accounts(tree)
        _settings(tree)
        _certificates(tree)
        _alternatives(tree, packages)
        _trim(tree)
        _loader_cache(tree)
    with step("compiling Python's library", report):
        _compile_python(tree)


def _unpack(deb: Path, tree: Path) -> Package:
    """Unpack one package over the tree; symbolic links that stand for folders stay."""
    excluded = [f"--exclude=./usr/share/{name}/*" for name in _UNWANTED]
    extract = ["tar", "-x", "-v", "-p", "--no-same-owner", "--keep-directory-symlink", "-C", str(tree), *excluded]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as source:
        done = subprocess.run(extract, stdin=source.stdout, capture_output=True, check=False)
    if done.returncode or source.returncode:
        what = f"unpacking {deb.name} failed"
        raise ImageProblem(failure(what, done.stderr.decode(errors="replace"), _PERMISSIONS))
    names = (line.removeprefix(".").rstrip("/") for line in done.stdout.decode(errors="replace").splitlines())
    return read_package(deb, tuple(name for name in names if name))


def _accounts(tree: Path) -> None:
    """The distribution's accounts and `agent`, all without a password."""
    master = tree / "usr/share/base-passwd"
    users = (master / "passwd.master").read_text(encoding="utf-8").replace(":*:", ":x:")
    groups = (master / "group.master").read_text(encoding="utf-8").replace(":*:", ":x:")
    users += f"{USER}:x:{UID}:{GID}::{HOME}:/bin/bash\n"
    names = [line.partition(":")[0] for line in users.splitlines()]
    _write(tree / "etc/passwd", users)
    _write(tree / "etc/group", f"{groups}{USER}:x:{GID}:\n")
    _write(tree / "etc/shadow", "".join(f"{name}:*:19000:0:99999:7:::\n" for name in names))
    home = tree / AGENT_HOME
    home.mkdir(parents=True)
    for file in (tree / "etc/skel").iterdir():
        shutil.copy2(file, home / file.name)


def _settings(tree: Path) -> None:
    """Files that the scripts of base-files and its like would write."""
    for name in _FOLDERS:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for template in ("base-files/profile", "base-files/nsswitch.conf", "libc-bin/nsswitch.conf"):
        source = tree / "usr/share" / template
        if source.is_file():
            shutil.copyfile(source, tree / "etc" / source.name)
    _write(tree / "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    _write(tree / "etc/shells", "/bin/sh\n/bin/bash\n")
    if not (tree / "bin/sh").exists():
        (tree / "bin/sh").symlink_to("dash")
    zone = tree / "etc/localtime"
    if not zone.is_symlink() and not zone.exists():
        zone.symlink_to("/usr/share/zoneinfo/Etc/UTC")


def _certificates(tree: Path) -> None:
    """One bundle of all TLS roots, also where OpenSSL looks by itself."""
    roots = tree / "usr/share/ca-certificates"
    files = sorted(roots.rglob("*.crt"))
    if not files:
        return
    _write(tree / "etc/ca-certificates.conf", "".join(f"{file.relative_to(roots)}\n" for file in files))
    bundle = "".join(file.read_text(encoding="utf-8").rstrip() + "\n" for file in files)
    _write(tree / "etc/ssl/certs/ca-certificates.crt", bundle)
    default = tree / "usr/lib/ssl/cert.pem"
    if default.parent.is_dir() and not default.is_symlink():
        default.symlink_to("/etc/ssl/certs/ca-certificates.crt")


def _alternatives(tree: Path, packages: Sequence[Package]) -> None:
    for package in packages:
        for one in package.alternatives:
            if not os.path.lexists(tree / one.path.lstrip("/")):
                continue  # a manual page
            tool = ["update-alternatives", "--root", str(tree), "--log", "/dev/null", "--quiet"]
            there = [slave for slave in one.slaves if _can_link(tree, slave[0], slave[2])]
            slaves = [word for slave in there for word in ("--slave", *slave)]
            run_tool(
                [*tool, "--install", one.link, one.name, one.path, one.rank, *slaves],
                what=f"choosing {one.path} as {one.name}",
                hint="this is a defect of the recipe; report it with these lines.",
            )


def _can_link(tree: Path, link: str, path: str) -> bool:
    """Manuals, and the folders that links to them would lie in, aren't unpacked."""
    return os.path.lexists(tree / path.lstrip("/")) and (tree / link.lstrip("/")).parent.is_dir()


def _trim(tree: Path) -> None:
    """Drop documents but licences, open everything for reading, take set-uid bits away."""
    for file in (tree / "usr/share/doc").rglob("*"):
        if file.name != "copyright" and not file.is_dir():
            file.unlink()
    for marker in tree.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()  # it guards a machine's own Python; here pip is how an image gets its packages
    for folder, names, files in os.walk(tree):
        for name in (*names, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode):
                wider = 0o555 if stat.S_ISDIR(mode) or mode & 0o111 else 0o444
                path.chmod((stat.S_IMODE(mode) | wider | 0o200) & ~(stat.S_ISUID | stat.S_ISGID))


def _loader_cache(tree: Path) -> None:
    """/etc/ld.so.cache. The loader finds the standard folders without it, so a host that forbids this loses little."""
    program = tree / "usr/sbin/ldconfig"  # a static program; the host's own isn't on a plain user's PATH
    root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    try:
        subprocess.run([*root, str(program), "-r", str(tree)], check=False, capture_output=True)
    except FileNotFoundError:
        return
    shutil.rmtree(tree / "var/cache/ldconfig", ignore_errors=True)  # ldconfig's own notes, for root's eyes


def _compile_python(tree: Path) -> None:
    """Compile the library once: a read-only sandbox could not keep the result, and every start would pay for it.

    The tree's own interpreter does it, started through the tree's own loader, so no chroot is needed.
    """
    interpreters = sorted(file for file in tree.glob("usr/bin/python3.*") if re.fullmatch(r"python3\.\d+", file.name))
    loaders = sorted(tree.glob("usr/lib64/ld-linux-*.so.*")) + sorted(tree.glob("usr/lib/ld-linux-*.so.*"))
    libraries = ":".join(str(folder) for folder in sorted(tree.glob("usr/lib/*-linux-gnu*")))
    if not interpreters or not loaders:
        return
    python = [str(loaders[0]), "--library-path", libraries, str(interpreters[0]), "-I", "-S"]
    inside = ["-q", "-s", str(tree), "-p", "/", "-x", "/python3[^/]*/(lib2to3/)?tests?/"]

    def compile_folder(folder: Path) -> None:
        # One process each rather than compileall's own workers: those would start without the tree's loader.
        command = [*python, "-m", "compileall", *inside, str(folder)]
        run_tool(command, what=f"compiling {folder.name}", hint=_PERMISSIONS)

    folders = [folder for folder in sorted(tree.glob("usr/lib/python3*")) if folder.is_dir()]
    with ThreadPoolExecutor(len(folders)) as pool:
        list(pool.map(compile_folder, folders))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
