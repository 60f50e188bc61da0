"""make as a program, in a copy of the site whose files are an hour old."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def site(tmp_path):
    """A copy that was built long ago."""
    for name in ("Makefile", "parts", "src", "tools"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    age(tmp_path, 7200)
    make(tmp_path)
    age(tmp_path / "out", 3600)
    return tmp_path


def age(folder, seconds):
    then = time.time() - seconds
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (then, then))


def make(site, *arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *arguments], cwd=site, env=environment, capture_output=True, text=True)
    done.built = sorted(line for line in done.stdout.splitlines() if line.startswith(("page ", "index")))
    return done


def test_a_page(site):
    text = (site / "out/hours.html").read_text()
    assert "<title>Opening hours</title>" in text
    assert text.count("<p>") == text.count("</p>") == 2
    assert text.endswith("</html>\n")


def test_the_index_is_sorted_by_title(site):
    (site / "src/anna.txt").write_text("Zebras < lions\n\nNone here.\n")
    make(site)
    index = (site / "out/index.html").read_text()
    assert index.index("Opening hours") < index.index("Water") < index.index("Zebras &lt; lions")


def test_nothing_is_done_twice(site):
    assert make(site, "-q").returncode == 0
    assert make(site).built == []


def test_a_changed_source_makes_its_page_and_the_index(site):
    (site / "src/water.txt").write_text("Water pumps\n\nAll year now.\n")
    assert make(site).built == ["index", "page water"]
    assert "Water pumps" in (site / "out/index.html").read_text()
    assert make(site).built == []


def test_a_new_source(site):
    (site / "src/new.txt").write_text("New\n\nText.\n")
    assert make(site).built == ["index", "page new"]


def test_clean(site):
    make(site, "clean")
    assert not (site / "out").exists()
    assert make(site, "-j4").built == ["index", "page hours", "page water"]
