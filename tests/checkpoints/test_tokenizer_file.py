"""Qwen3.6's tokenizer as a file of the `tokenizers` library, against our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="needs the extra `embedded`")

from examples.checkpoints import tokenizer_file
from runtime.qwen_bpe import SPECIAL_TOKENS, qwen_tokenizer

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tokenizers import Tokenizer

    file = tmp_path_factory.mktemp("qwen") / "tokenizer.json"
    tokenizer_file.save_qwen36(file)
    tokenizer = Tokenizer.from_file(str(file))
    file.unlink()
    return tokenizer


def test_gives_the_same_ids_for_our_own_sources(written: Any) -> None:
    sources = sorted(Path(__file__).parents[2].glob("runtime/**/*.py"))
    assert len(sources) > 20
    for source in sources:
        text = source.read_text()
        assert written.encode(text, add_special_tokens=False).ids == qwen_tokenizer().encode_with_specials(text), source


# The file asks for NFC as Qwen's does, and ours leaves text as it is: so only text that is in NFC already.
@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["aaaa", "\n\n  ", "日本語", "🎉", *SPECIAL_TOKENS]))))
def test_gives_the_same_ids_for_any_text(written: Any, parts: list[str]) -> None:
    import unicodedata

    text = unicodedata.normalize("NFC", "".join(parts))
    assert written.encode(text, add_special_tokens=False).ids == qwen_tokenizer().encode_with_specials(text)


def test_has_the_special_tokens(written: Any) -> None:
    assert [written.token_to_id(text) for text in SPECIAL_TOKENS] == [
        qwen_tokenizer().special(t) for t in SPECIAL_TOKENS
    ]
    assert written.get_vocab_size() == 248_077
