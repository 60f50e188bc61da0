"""`agent model list` and `agent model show`."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from cli.main import cli
from runtime.catalog import CATALOG

DEMO = Path(__file__).parents[3] / "examples/demo/model"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["model", *arguments], catch_exceptions=False)


def test_the_list_has_every_model_and_says_what_fits() -> None:
    lines = run("list", "--hardware", "1x80").output.splitlines()
    assert lines[0] == "here: 1 x 80 GB card with 81,510 MiB"
    rows = {line.split()[0] for line in lines[3:] if not line.startswith(" ")}
    assert rows == {card.name for card in CATALOG}
    (fp8,) = [line for line in lines if "37.5 GB" in line]
    assert fp8.endswith("sglang, fits: 262,144 tokens of context, 13 trajectories at a time")
    (plus,) = [line for line in lines if line.startswith("Qwen3.6-Plus")]
    assert plus.endswith("hosted only") and "0.5/3" in plus


def test_the_list_as_json() -> None:
    rows = json.loads(run("list", "--hardware", "cpu:32", "--json").output)
    fits = {(row["model"], row["precision"]) for row in rows if row["fits"]}
    assert ("Qwen3.6-35B-A3B", "q4_k_m") in fits and ("Qwen3.6-35B-A3B", "fp8") not in fits
    row = next(row for row in rows if row["model"] == "Qwen3.6-27B")
    assert (row["kv_bytes_per_token"], row["state_bytes"]) == (65_536, 153_944_064)
    assert len(rows) == sum(max(1, len(card.variants)) for card in CATALOG)


def test_one_model() -> None:
    page = run("show", "Qwen/Qwen3.6-27B-FP8", "--hardware", "1x80").output
    assert "KV per token: 16 full-attention layers x 2 (K, V) x 4 heads x 256 x 2 B (bf16) = 65,536 B = 64 KiB" in page
    assert "temperature 0.6" in page and "sources" in page and "dashscope:qwen3.6-27b" in page
    assert run("list", "--show", "Qwen3.6-27B", "--hardware", "1x80").output == page


def test_what_is_not_known_is_said() -> None:
    page = run("show", "qwen3.6-plus").output
    assert "not established: dimensions: hosted only; nothing was published" in page
    assert "above 256,000 tokens of prompt 2 in, 6 out" in page


def test_a_folder() -> None:
    shown = json.loads(run("show", str(DEMO), "--json", "--hardware", "cpu:8").output)
    assert shown["dimensions"]["linear_layers"] == 3
    (weights,) = shown["weights"]
    assert weights["fits"] and weights["weights"] == str(DEMO)


def test_refusals() -> None:
    unknown = run("show", "gpt-9")
    assert unknown.exit_code == 6 and "Qwen3.6-35B-A3B" in unknown.output
    assert run("list", "--hardware", "big").exit_code == 6
