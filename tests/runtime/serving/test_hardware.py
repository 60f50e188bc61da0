"""What a machine has: as the driver states it, and as a user describes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.serving.hardware import Card, Hardware, HardwareUnknown, describe, detect, parse_nvidia_smi

SMI = """NVIDIA GeForce RTX 4090, 24564, 8.9
NVIDIA H100 80GB HBM3, 81559, 9.0
NVIDIA GB10, [N/A], 12.1
"""


def test_what_nvidia_smi_says() -> None:
    assert parse_nvidia_smi(SMI) == (
        Card("NVIDIA GeForce RTX 4090", 24_564, (8, 9)),
        Card("NVIDIA H100 80GB HBM3", 81_559, (9, 0)),
    )
    assert parse_nvidia_smi("") == parse_nvidia_smi("No devices were found\n") == ()


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ncat <<'END'\n{SMI}END\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = detect()
    assert [card.memory for card in found.cards] == [24_564, 81_559]
    assert found.ram and found.ram > 500 and found.cores and found.cores >= 1 and not found.described
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' && exit 9\n")
    assert detect().cards == ()
    smi.unlink()
    assert detect().cards == ()


@pytest.mark.parametrize(
    ("text", "cards", "ram"),
    [
        ("1x24", (Card("24 GB card", 24_453),), None),
        ("2x16@8.9", (Card("16 GB card", 16_302, (8, 9)),) * 2, None),
        ("1x80, 1x24", (Card("80 GB card", 81_510), Card("24 GB card", 24_453)), None),
        ("1x24,ram:64", (Card("24 GB card", 24_453),), 65_208),
        ("cpu:32", (), 32_604),
    ],
)
def test_descriptions(text: str, cards: tuple[Card, ...], ram: int | None) -> None:
    assert describe(text) == Hardware(cards, ram, described=True)


def test_a_description_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({"cards": [{"name": "A", "memory": 40_960, "capability": "8.0"}], "ram": 100_000}))
    assert describe(str(path)) == Hardware((Card("A", 40_960, (8, 0)),), 100_000, described=True)
    for text in ("[]", "{", '{"cards": [{}]}', '{"cards": 3}'):
        path.write_text(text)
        with pytest.raises(HardwareUnknown, match=r"machine\.json describes no hardware"):
            describe(str(path))


@pytest.mark.parametrize("text", ["", "24", "x24", "1x", "1x24@9", "gpu:24", "1x24,", "1.5x24"])
def test_what_is_no_description(text: str) -> None:
    with pytest.raises(HardwareUnknown, match="1x24 or 8x80"):
        describe(text)


def test_a_card_of_unknown_capability_is_not_taken_for_able() -> None:
    assert Card("a", 1, (9, 0)).at_least((8, 9)) and not Card("a", 1, (8, 6)).at_least((8, 9))
    assert not Card("a", 1).at_least((7, 0))
