"""The script as a program, on folders with empty files."""

import subprocess
from pathlib import Path

SWEEP = Path(__file__).parent.parent / "bin" / "sweep"


def sweep(*arguments, cwd=None):
    return subprocess.run(["sh", str(SWEEP), *map(str, arguments)], cwd=cwd, capture_output=True, text=True)


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_stay(tmp_path):
    fill(tmp_path, *(f"web-2024010{day}.tar.gz" for day in range(1, 6)))
    done = sweep(tmp_path)
    assert names(tmp_path) == [f"web-2024010{day}.tar.gz" for day in (3, 4, 5)]
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "2 removed"


def test_each_series_has_its_own_count(tmp_path):
    fill(tmp_path, "db-20240101.tar.gz", "db-20240102.tar.gz", "web-20230101.tar.gz")
    sweep("-k", 1, tmp_path)
    assert names(tmp_path) == ["db-20240102.tar.gz", "web-20230101.tar.gz"]


def test_other_files_are_left_alone(tmp_path):
    others = ["README", "db-2024.tar.gz", "db-20240101.tar", "db-20240102.tar.gz.part"]
    fill(tmp_path, *others, "db-20240101.tar.gz", "db-20240103.tar.gz")
    sweep("-k", 1, tmp_path)
    assert names(tmp_path) == sorted([*others, "db-20240103.tar.gz"])


def test_a_dry_run_removes_nothing(tmp_path):
    fill(tmp_path, "db-20240101.tar.gz", "db-20240102.tar.gz")
    done = sweep("-n", "-k", 1, tmp_path)
    assert len(names(tmp_path)) == 2
    assert done.stdout.splitlines() == [f"would remove {tmp_path}/db-20240101.tar.gz", "1 removed"]


def test_an_empty_folder(tmp_path):
    done = sweep(tmp_path)
    assert (done.returncode, done.stdout) == (0, "0 removed\n")


def test_wrong_arguments():
    assert sweep().returncode == 2
    assert "no folder" in sweep("/nowhere/at/all").stderr
    assert "COUNT" in sweep("-k", "many", "/tmp").stderr
    assert "at least 1" in sweep("-k", "0", "/tmp").stderr
