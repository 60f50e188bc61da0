"""Sets from files of every kind: what is broken is named with its place, and the rest is there."""

from __future__ import annotations

import gzip
import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evals import rows
from evals.datasets import NAMES, Filter, load_dataset, parse_slice
from evals.rows import DatasetUnusable
from tests.evals.cases import row
from tests.shared_data import SHARED, needs_shared


def some(count: int) -> list[dict[str, Any]]:
    return [row(instance_id=f"a__b-{number}", difficulty=("easy", "hard")[number % 2]) for number in range(count)]


def lines(found: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in found).encode()


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.xz", "d.jsonl.gz", "d.json", "d.json.gz"])
def test_files(name: str, tmp_path: Path) -> None:
    data = lines(some(3)) if "jsonl" in name else json.dumps(some(3)).encode()
    pack = {".xz": lzma.compress, ".gz": gzip.compress}.get(Path(name).suffix, bytes)
    found = load_dataset(write(tmp_path / name, pack(data)))
    assert [one.instance_id for one in found.instances] == ["a__b-0", "a__b-1", "a__b-2"]
    assert not found.broken


def test_an_object_of_rows(tmp_path: Path) -> None:
    data = {one["instance_id"]: one for one in some(2)}
    assert len(load_dataset(write(tmp_path / "d.json", json.dumps(data).encode())).instances) == 2


@pytest.mark.parametrize("name", ["d.parquet", "d.parquet.gz"])
def test_parquet(name: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `evals`")
    parquet = pytest.importorskip("pyarrow.parquet")
    plain = tmp_path / "plain.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([*some(2), row(instance_id="../x")]), plain)
    data = plain.read_bytes()
    found = load_dataset(write(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data))
    assert [one.fail_to_pass for one in found.instances] == [("f",), ("f",)]
    assert [broken.place for broken in found.broken] == [3]


def test_broken_lines_are_named_and_the_rest_is_there(tmp_path: Path) -> None:
    good = lines(some(1)).strip()
    bad = [
        b"{",
        b"[1]",
        b'{"instance_id": "x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 10_000,
        b"",
        b'{"instance_id": ".."}',
    ]
    found = load_dataset(write(tmp_path / "d.jsonl", b"\n".join([*bad, good, good])))
    assert [one.instance_id for one in found.instances] == ["a__b-0"]
    assert [broken.place for broken in found.broken] == [1, 2, 3, 4, 5, 6, 8, 10]
    reasons = [broken.reason for broken in found.broken]
    assert "nested too deeply" in reasons[4]
    assert "can't be a file name" in reasons[6]
    assert reasons[7] == "a__b-0 was there before; the first one counts"
    assert str(found.broken[0]).startswith("row 1: not JSON")


def test_lines_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE", 2000)
    long = json.dumps(row(instance_id="long", problem_statement="x" * 5000)).encode() + b"\n"
    found = load_dataset(write(tmp_path / "d.jsonl", long + lines(some(2))))
    assert [one.instance_id for one in found.instances] == ["a__b-0", "a__b-1"]
    assert [broken.place for broken in found.broken] == [1]


def test_what_a_packed_file_unfolds_to_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_FILE", 3000)
    found = load_dataset(write(tmp_path / "d.jsonl.xz", lzma.compress(lines(some(1)) + b" " * 99 + b"\n" * 100_000)))
    assert len(found.instances) == 1
    assert "more than" in found.broken[-1].reason
    with pytest.raises(DatasetUnusable, match="more than"):
        load_dataset(write(tmp_path / "d.json.xz", lzma.compress(b" " * 100_000)))


def test_a_torn_archive_gives_what_is_whole(tmp_path: Path) -> None:
    whole = b"".join(lzma.compress(lines([one])) for one in some(3))
    found = load_dataset(write(tmp_path / "d.jsonl.xz", whole[:-20]))
    assert len(found.instances) >= 2
    assert "can't be read further" in found.broken[-1].reason


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("d.json", b"{", "no JSON that can be read"),
        ("d.json", b"3", "neither a list of rows"),
        ("d.csv", b"", "is no data set"),
        ("d.parquet", b"PAR1", "Parquet"),
        ("missing.jsonl", None, "there is no file"),
    ],
)
def test_unusable_files(name: str, data: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DatasetUnusable, match=reason):
        load_dataset(str(path))


@pytest.mark.parametrize("name", ["nonsense", "a/../../b", "--x/y", "a b/c"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(DatasetUnusable, match=r"is no data set.*verified"):
        load_dataset(name)


def test_filters(tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", lines([*some(6), row("django/django")]))
    found = load_dataset(source).instances

    def ids(**wanted: Any) -> list[str]:
        return [one.instance_id for one in Filter(**wanted).apply(found)]

    assert ids(ids=("a__b-1", "django__*")) == ["a__b-1", "django__django-1"]
    assert ids(repos=("django/*",)) == ["django__django-1"]
    assert ids(difficulties=("hard",), part=slice(1, None)) == ["a__b-3", "a__b-5"]
    assert len(load_dataset(source, wanted=Filter(part=slice(2))).instances) == 2


def test_slices() -> None:
    assert [parse_slice(text) for text in ("10", ":10", "5:20", "::7", "-3:")] == [
        slice(10),
        slice(None, 10),
        slice(5, 20),
        slice(None, None, 7),
        slice(-3, None),
    ]
    for wrong in ("", ":", "a", "1:2:3:4", "::0", "::-1", "1-"):
        with pytest.raises(ValueError, match=r"slice|step|literal"):
            parse_slice(wrong)


def test_names_have_a_split() -> None:
    assert {"verified", "lite", "full", "multimodal", "multilingual", "live", "smith", "gym", "pro"} == set(NAMES)
    assert all(name.split and "/" in name.hub_id for name in NAMES.values())


@needs_shared
def test_the_real_sets() -> None:
    verified = load_dataset(str(SHARED / "data" / "swe-bench-verified-500.jsonl.xz"))
    lite = load_dataset(str(SHARED / "data" / "swe-bench-lite-300.jsonl.xz"))
    assert (len(verified.instances), len(lite.instances)) == (500, 300)
    assert not verified.broken + lite.broken
    difficulties = Counter(one.difficulty for one in verified.instances)
    assert difficulties["<15 min fix"] == 194
    assert all(one.fail_to_pass and one.base_commit and one.patch for one in verified.instances)
