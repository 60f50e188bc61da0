from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tools.text_edit import (
    Edit,
    EditRefused,
    NotText,
    decode,
    find_all,
    insert_after,
    lines_of,
    numbered,
    replace_once,
    unix,
)

pieces = st.sampled_from(["a", "b", "ab", " ", "\t", "\n", "\r\n", "\r", "é", "🦊", "\x0c", "\u2028", "if x:", "\n\n"])
texts = st.lists(pieces, max_size=30).map("".join)


@given(st.binary(max_size=200).filter(lambda data: b"\0" not in data) | texts.map(str.encode))
def test_decoding_loses_nothing(data: bytes) -> None:
    try:
        decoded = decode(data)
    except NotText:
        assume(False)
    assert decoded.encode(decoded.text) == data


@pytest.mark.parametrize(
    ("data", "codec", "text"),
    [
        ("é\n".encode(), "utf-8", "é\n"),
        ("\ufeffé\n".encode(), "utf-8", "\ufeffé\n"),
        ("é ü\n".encode("latin-1"), "latin-1", "é ü\n"),
        ("# -*- coding: cp1252 -*-\n'€'\n".encode("cp1252"), "cp1252", "# -*- coding: cp1252 -*-\n'€'\n"),
        (
            "#!/x\n# vim: set fileencoding=gbk :\n'中'\n".encode("gbk"),
            "gbk",
            "#!/x\n# vim: set fileencoding=gbk :\n'中'\n",
        ),
        (b"# coding: rot13\n\xe9", "latin-1", "# coding: rot13\né"),
        ("日本\n".encode() + b"\xff\n", "utf-8", "日本\n\udcff\n"),
    ],
)
def test_codecs(data: bytes, codec: str, text: str) -> None:
    decoded = decode(data)
    assert (decoded.codec, decoded.text) == (codec, text)
    assert decoded.encode(decoded.text) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\x89PNG\r\n\x1a\n\0", "PNG"), (b"GIF89a", "GIF"), (b"a\0b", "binary"), ("x".encode("utf-16"), "UTF-16")],
)
def test_what_is_no_text(data: bytes, words: str) -> None:
    with pytest.raises(NotText, match=words):
        decode(data)


def test_a_character_that_the_codec_lacks() -> None:
    with pytest.raises(EditRefused, match="latin-1, which has no '€'"):
        decode(b"\xe9").encode("é€")


@given(texts, texts, texts, texts)
def test_replacing_touches_nothing_else(before: str, old: str, after: str, new: str) -> None:
    text = before + old + after
    assume(old and unix(old) != unix(new) and len(find_all(text, old)) == 1)
    start, end = find_all(text, old)[0]
    edit = replace_once(text, old, new)
    assert isinstance(edit, Edit)
    assert edit.text.startswith(text[:start]) and edit.text.endswith(text[end:])
    middle = edit.text[start : len(edit.text) - len(text[end:])]
    assert middle.replace("\r", "") == new.replace("\r", "")
    if "\r" not in text + new:
        assert middle == new
    assert 1 <= edit.first <= edit.last <= max(1, edit.text.count("\n") + 1)


@given(texts.filter(bool), st.data())
def test_what_is_in_the_text_is_found(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    old = text[start : data.draw(st.integers(start + 1, len(text)))]
    assume(not (old.startswith("\n") and text[:start].endswith("\r")))
    assert (start, start + len(old)) in find_all(text, old, most=10_000)
    for begin, end in find_all(text, old):
        assert unix(text[begin:end]) == unix(old)


@given(texts)
def test_line_breaks_of_the_file_are_kept(text: str) -> None:
    windows = "top\r\n" + unix(text).replace("\r", "").replace("\n", "\r\n") + "MARK\r\nend\r\n"
    edit = replace_once(windows, "MARK\nend", "one\ntwo\r\nthree")
    assert isinstance(edit, Edit)
    assert edit.text == windows.replace("MARK\r\nend", "one\r\ntwo\r\nthree")


def test_mixed_line_breaks_survive_in_lines_that_stay() -> None:
    edit = replace_once("a\r\nb\nc\r\nd\n", "a\nb\nc\nd\n", "a\nb\nX\nd\n")
    assert isinstance(edit, Edit)
    assert edit.text == "a\r\nb\nX\r\nd\n"


@pytest.mark.parametrize(
    ("text", "old", "lines"),
    [("x\ny\nx\n", "x", [1, 3]), ("aaa", "aa", [1, 1]), ("x\n", "y", []), ("a\r\n\r\nb\r\n", "\n\n", [1])],
)
def test_places(text: str, old: str, lines: list[int]) -> None:
    result = replace_once(text, old, "new")
    assert (len(lines) == 1 and isinstance(result, Edit)) or result == lines


@pytest.mark.parametrize(("old", "new", "words"), [("", "x", "`old_str` is empty"), ("a\r\nb", "a\nb", "are the same")])
def test_pointless_replacements(old: str, new: str, words: str) -> None:
    with pytest.raises(EditRefused, match=words):
        replace_once("a\nb", old, new)


@given(texts, st.integers(0, 12), texts)
def test_inserting_touches_nothing_else(text: str, line: int, new: str) -> None:
    lines = lines_of(text)
    assume(line <= len(lines))
    edit = insert_after(text, line, new)
    position = next(
        at for at in range(len(text) + 1) if edit.text.startswith(text[:at]) and edit.text.endswith(text[at:])
    )
    assert position <= len(text)
    assert len(lines_of(edit.text)) == len(lines) + unix(new).removesuffix("\n").count("\n") + 1
    ends_open = bool(lines) and line == len(lines) and not text.endswith("\n")
    if not ends_open:
        assert edit.text.endswith("\n") == text.endswith("\n") or not lines
    assert lines_of(edit.text)[line + 1 + unix(new).removesuffix("\n").count("\n") :] == lines[line:]
    assert lines_of(edit.text)[line].rstrip("\r") == unix(new).split("\n")[0].rstrip("\r")


@pytest.mark.parametrize(
    ("text", "line", "new", "expected"),
    [
        ("", 0, "a", "a\n"),
        ("a\nb\n", 0, "x", "x\na\nb\n"),
        ("a\nb\n", 1, "x\ny\n", "a\nx\ny\nb\n"),
        ("a\nb", 2, "x", "a\nb\nx"),
        ("a\r\nb\r\n", 2, "x\ny", "a\r\nb\r\nx\r\ny\r\n"),
        ("\ufeffa\n", 0, "x", "\ufeffx\na\n"),
        ("a\n", 1, "", "a\n\n"),
        ("a", 1, "", "a\n\n"),
    ],
)
def test_insert(text: str, line: int, new: str, expected: str) -> None:
    assert insert_after(text, line, new).text == expected


@pytest.mark.parametrize("line", [-1, 3])
def test_insert_outside(line: int) -> None:
    with pytest.raises(EditRefused, match="between 0 and 2"):
        insert_after("a\nb", line, "x")


def test_numbered_lines() -> None:
    assert numbered(["a", "", "x" * 12, "\udcff"], 9, longest=10) == (
        "     9\ta\n    10\t\n    11\txxxxxxxxxx [... 2 more characters in this line ...]\n    12\t\ufffd"
    )


def test_lines_are_what_an_editor_counts() -> None:
    assert lines_of("\ufeffa\x0cb\u2028c\r\nd\n\ne") == ["a\x0cb\u2028c", "d", "", "e"]
    assert lines_of("") == []
