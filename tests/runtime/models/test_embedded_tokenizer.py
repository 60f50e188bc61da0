"""A checkpoint's tokenizer: lossless, and no text can spell a special token."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="needs the extra `embedded`")

from runtime.models.base import ModelRefused
from runtime.models.embedded_tokenizer import CheckpointTokenizer, byte_letters
from tests.runtime.models.tiny_checkpoints import SPECIALS, save_tokenizer

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return folder / "tokenizer.json"


@pytest.fixture(scope="module")
def tokenizer(file: Path) -> CheckpointTokenizer:
    return CheckpointTokenizer.from_file(file)


TEXTS = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(SPECIALS))).map("".join)


@given(text=TEXTS)
def test_every_text_comes_back_and_specials_in_it_are_ordinary(tokenizer: CheckpointTokenizer, text: str) -> None:
    specials = {tokenizer.special(special) for special in SPECIALS}
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not specials & set(ids)
    meant = tokenizer.encode_with_specials(text)
    assert tokenizer.decode(meant) == text
    assert sum(token in specials for token in meant) == sum(text.count(special) for special in SPECIALS)


@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_is_one_id_only_when_it_is_meant(tokenizer: CheckpointTokenizer, special: str) -> None:
    assert tokenizer.encode_with_specials(special) == [tokenizer.special(special)]
    assert len(tokenizer.encode(special)) > 1
    assert tokenizer.decode_bytes([tokenizer.special(special)]) == special.encode()


def test_only_special_tokens_are_special(tokenizer: CheckpointTokenizer) -> None:
    with pytest.raises(KeyError):
        tokenizer.special("a")


@given(text=st.text(max_size=20), cut=st.integers(0, 60))
def test_bytes_are_exact_at_any_cut(tokenizer: CheckpointTokenizer, text: str, cut: int) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids[:cut]) + tokenizer.decode_bytes(ids[cut:]) == text.encode()


def test_a_decomposed_name_stays_decomposed(tokenizer: CheckpointTokenizer) -> None:
    name = unicodedata.normalize("NFD", "café.py")
    assert tokenizer.decode(tokenizer.encode(name)) == name
    assert tokenizer.decode(tokenizer.encode_with_specials(name)) == name


def test_text_in_nfc_gets_the_ids_that_the_library_gives(tokenizer: CheckpointTokenizer, file: Path) -> None:
    from tokenizers import Tokenizer

    text = "def f(x):\n\treturn 'é漢字🙂'  # it's 1234\n\n\n    end  "
    assert tokenizer.encode(text) == Tokenizer.from_file(str(file)).encode(text).ids


def test_ids_without_text_and_broken_text_do_no_harm(tokenizer: CheckpointTokenizer) -> None:
    assert tokenizer.decode([10**6, -1]) == "\ufffd\ufffd"
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_the_name_follows_the_file(tokenizer: CheckpointTokenizer, file: Path) -> None:
    assert CheckpointTokenizer.from_file(file).name == tokenizer.name
    changed = CheckpointTokenizer(file.read_text() + "\n", where="changed")
    assert changed.name != tokenizer.name


def test_the_byte_letters_are_those_of_the_library() -> None:
    from tokenizers import pre_tokenizers

    assert sorted(byte_letters()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ("\x00\n é~", "\x7f\xad漢"):
        letters = "".join(piece for piece, _ in split.pre_tokenize_str(text))
        assert letters == "".join(byte_letters()[byte] for byte in text.encode())


@pytest.mark.parametrize(
    "source", ["{", "[]", "{}", '{"decoder": {"type": "WordPiece"}}', '{"decoder": {"type": "ByteLevel"}}']
)
def test_files_of_another_kind_are_refused(source: str) -> None:
    with pytest.raises(ModelRefused, match=r"here/tokenizer\.json"):
        CheckpointTokenizer(source, where="here/tokenizer.json")
