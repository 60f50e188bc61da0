"""The catalog: its arithmetic gives the published figures, its names are found, and nothing stands without a source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.catalog import CATALOG, Precision, Preset, find, locate
from runtime.dimensions import GIB, MIB, ConfigUnreadable, from_config
from runtime.model_card import Price, Tier
from runtime.models.base import Usage

DEMO = Path(__file__).parents[2] / "examples/demo/model"


def card(name: str):  # type: ignore[no-untyped-def]
    found = find(name)
    assert found is not None, name
    return found


@pytest.mark.parametrize(
    ("name", "kv_kib", "state_mib", "bf16_state_mib"),
    [
        ("Qwen3.6-35B-A3B", 20, 61.4, 31.4),
        ("Qwen3.6-27B", 64, 146.8, 74.8),
        ("Qwen3.5-397B-A17B", 30, 183.2, 93.2),
        ("Qwen3.5-0.8B", 12, 18.6, 9.6),
    ],
)
def test_cache_and_state_follow_from_the_dimensions(
    name: str, kv_kib: int, state_mib: float, bf16_state_mib: float
) -> None:
    shape = card(name).dimensions
    assert shape.kv_bytes_per_token() == kv_kib * 1024
    assert shape.state_bytes() / MIB == pytest.approx(state_mib, abs=0.05)
    assert shape.state_bytes(ssm=2) / MIB == pytest.approx(bf16_state_mib, abs=0.05)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen3.6-27B", 27.78),  # 55.56 GB of bf16, as its index file says
        ("Qwen3.5-397B-A17B", 403.4),
        ("Qwen3.5-4B", 4.66),
        ("Qwen3.5-0.8B", 0.873),
    ],
)
def test_the_sum_of_the_parts_is_the_published_model(name: str, billions: float) -> None:
    assert card(name).dimensions.parameters().total / 1e9 == pytest.approx(billions, rel=1e-3)


def test_the_text_part_is_what_gguf_files_report() -> None:
    assert card("Qwen3.5-9B").dimensions.parameters().text / 1e9 == pytest.approx(8.95, abs=0.01)
    mixture = card("Qwen3.6-35B-A3B").dimensions.parameters()
    assert (mixture.text + mixture.mtp) * 2 / 1e9 == pytest.approx(71.1, rel=2e-3)  # a BF16 GGUF with its MTP layer


def test_computed_sizes_agree_with_published_ones() -> None:
    """Qwen3.5's 27B and 35B-A3B are computed; Qwen3.6's of the same dimensions were read."""
    for size in ("27B", "35B-A3B"):
        computed = card(f"Qwen3.5-{size}").variant(Precision.FP8)
        read = card(f"Qwen3.6-{size}").variant(Precision.FP8)
        assert computed.estimated and not read.estimated
        assert computed.bytes == pytest.approx(read.bytes, rel=0.005)
    small = card("Qwen3.6-35B-A3B")
    with_mtp = small.variant(Precision.INT4).bytes + small.dimensions.parameters().mtp * 2
    assert with_mtp / 1e9 == pytest.approx(24.4, rel=0.01)  # a published GPTQ build that holds the MTP layer


def test_the_arithmetic_is_shown() -> None:
    first, second, third = card("Qwen3.6-35B-A3B").dimensions.arithmetic()
    assert first == (
        "KV per token: 10 full-attention layers x 2 (K, V) x 2 heads x 256 x 2 B (bf16) = 20,480 B = 20 KiB"
    )
    assert "30 Gated DeltaNet layers x (32 heads x 128 x 128 x 4 B (fp32) + 3 x 8,192 x 2 B" in second
    assert "61.4 MiB" in second
    assert "3,144 tokens" in third


@pytest.mark.parametrize("model", CATALOG, ids=lambda model: model.name)
def test_every_entry_is_complete_or_says_why_not(model) -> None:  # type: ignore[no-untyped-def]
    assert find(model.name) is model
    assert set(model.presets) == set(Preset)
    assert all(model.sampling(preset).temperature > 0 for preset in Preset)
    assert model.sampling().temperature == 0.6 and model.sampling().presence_penalty == 0.0
    assert model.dimensions is not None or model.unknown.get("dimensions")
    assert model.variants or model.prices, "neither to serve nor to buy"
    assert {"context", "presets"} <= set(model.sources)
    assert all(variant.source and variant.bytes > 1e9 for variant in model.variants)
    assert all(price.source and price.output >= price.input > 0 for price in model.prices)
    if model.variants and any(v.estimated for v in model.variants if v.precision is Precision.BF16):
        assert model.dimensions is not None


def test_what_the_issue_names_is_there() -> None:
    for name in ("Qwen3.6-35B-A3B", "Qwen3.6-27B"):
        assert {variant.precision for variant in card(name).variants} == set(Precision) - {Precision.LOCAL}
        assert (card(name).context, card(name).longest_context) == (262_144, 1_010_000)
    for name in ("Qwen3.6-Plus", "Qwen3.6-Max-Preview", "Qwen3.5-Plus"):
        assert card(name).hosted_only and card(name).price is not None


@pytest.mark.parametrize(
    ("named", "name", "precision"),
    [
        ("Qwen/Qwen3.6-35B-A3B", "Qwen3.6-35B-A3B", Precision.BF16),
        ("Qwen/Qwen3.6-35B-A3B-FP8", "Qwen3.6-35B-A3B", Precision.FP8),
        ("qwen3.6-35b-a3b", "Qwen3.6-35B-A3B", None),
        ("qwen3.6:27b", "Qwen3.6-27B", None),
        ("QuantTrio/Qwen3.6-27B-AWQ", "Qwen3.6-27B", Precision.INT4),
        ("nvidia/Qwen3.6-27B-NVFP4", "Qwen3.6-27B", Precision.NVFP4),
        ("/models/Qwen_Qwen3.6-35B-A3B-UD-Q4_K_M.gguf", "Qwen3.6-35B-A3B", Precision.Q4_K_M),
        ("unsloth/Qwen3.6-27B-GGUF:Q4_K_M", "Qwen3.6-27B", Precision.Q4_K_M),
        ("qwen3.6-plus-2026-04-02", "Qwen3.6-Plus", None),
        ("qwen/qwen3.6-max-preview", "Qwen3.6-Max-Preview", None),
    ],
)
def test_names(named: str, name: str, precision: Precision | None) -> None:
    found = locate(named)
    assert found is not None and found.card.name == name
    assert (found.variant.precision if found.variant else None) == precision


@pytest.mark.parametrize("named", ["", "gpt-4", "Qwen3.6", "Qwen3.6-35B", "/nowhere/model"])
def test_unknown_names(named: str) -> None:
    assert find(named) is None


@pytest.mark.parametrize("named", ["x" * 100_000, "a/" * 3000, "qwen\0", "~nobody-of-that-name/x", "-mtp" * 900])
def test_names_that_no_file_can_have_are_unknown(named: str) -> None:
    assert find(named) is None
    assert locate(named) is None


def test_a_name_that_a_server_gives_is_no_path_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DEMO.parent)
    assert locate("model") is not None
    assert find("model") is None
    assert find(str(DEMO)) is None
    (tmp_path / "Qwen3.6-27B").mkdir()
    assert find(str(tmp_path / "Qwen3.6-27B")) is card("Qwen3.6-27B")  # by what it is called, whatever lies there


def test_a_named_repository_is_what_gets_served() -> None:
    found = locate("QuantTrio/Qwen3.6-27B-AWQ")
    assert found is not None and found.variant is not None and found.variant.hub == "QuantTrio/Qwen3.6-27B-AWQ"


def test_a_folder_is_read(tmp_path: Path) -> None:
    shape = card("Qwen3.6-27B").dimensions
    config = {
        "text_config": {
            "hidden_size": shape.hidden,
            "num_hidden_layers": 64,
            "full_attention_interval": 4,
            "num_attention_heads": 24,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "linear_num_value_heads": 48,
            "linear_num_key_heads": 16,
            "linear_value_head_dim": 128,
            "vocab_size": 248_320,
            "intermediate_size": 17_408,
        },
        "tie_word_embeddings": False,
    }
    folder = tmp_path / "my-finetune"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"0" * 1000)
    found = locate(str(folder))
    assert found is not None and found.variant is not None
    assert found.card.name in ("Qwen3.6-27B", "Qwen3.5-27B")  # the same dimensions; the folder's name says neither
    assert (found.variant.hub, found.variant.bytes) == (str(folder), 1000)


def test_a_folder_of_no_known_model_has_a_card_of_its_own() -> None:
    found = locate(str(DEMO))
    assert found is not None and found.variant is not None
    shape = found.card.dimensions
    assert shape is not None
    assert (found.card.name, found.card.context) == ("model", 32_768)
    assert (shape.linear_layers, shape.full_layers, shape.experts.count if shape.experts else 0) == (3, 1, 8)
    assert shape.kv_bytes_per_token() == 1 * 2 * 2 * 32 * 2
    assert found.variant.bytes == (DEMO / "model.safetensors").stat().st_size


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"num_hidden_layers": 4}'])
def test_unreadable_configs_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigUnreadable, match=r"config\.json"):
        from_config(tmp_path)
    assert locate(str(tmp_path)) is None


def test_weights_without_what_is_not_loaded() -> None:
    model = card("Qwen3.6-27B")
    whole = model.variant(Precision.BF16)
    counted = model.dimensions.parameters()
    assert model.weights(whole, vision=False) == whole.bytes - counted.vision * 2
    assert model.weights(whole, mtp=False) == whole.bytes - counted.mtp * 2
    gguf = model.variant(Precision.Q4_K_M)
    assert model.weights(gguf, vision=False, mtp=False) == gguf.bytes  # holds neither


def test_memory_adds_up() -> None:
    model = card("Qwen3.6-35B-A3B")
    memory = model.memory(model.variant(Precision.FP8), tokens=262_144, states=16)
    assert memory.kv == 5 * GIB
    assert memory.total == memory.weights + memory.kv + 16 * model.dimensions.state_bytes()


def test_context_beyond_the_native_one() -> None:
    model = card("Qwen3.6-35B-A3B")
    assert [model.yarn(n) for n in (262_144, 300_000, 524_288, 1_010_000)] == [None, 2.0, 2.0, 4.0]
    with pytest.raises(ValueError, match="at most 1,010,000"):
        model.yarn(1_010_001)
    with pytest.raises(ValueError, match="at most 262,144"):
        card("Qwen3.5-0.8B").yarn(300_000)


def test_prices() -> None:
    price = Price("h", "m", input=1.0, output=10.0, cached_input=0.1, above=Tier(1000, 2.0, 20.0))
    assert price.cost(Usage(prompt_tokens=1000, cached_tokens=500, completion_tokens=100)) == pytest.approx(
        (500 * 1 + 500 * 0.1 + 100 * 10) / 1e6
    )
    assert price.cost(Usage(prompt_tokens=1001, cached_tokens=500, completion_tokens=100)) == pytest.approx(
        (501 * 2 + 500 * 2 + 100 * 20) / 1e6  # the dearer tier knows no cached price
    )
    assert card("Qwen3.6-Plus").price.cost(Usage(1_000_000, 0, 0)) == pytest.approx(2.0)
    assert card("Qwen3.6-Plus").price_at("openrouter").input == 0.325
