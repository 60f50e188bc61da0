from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tools.bounded import cut_middle, decoded, plain

texts = st.text() | st.lists(st.sampled_from(["a", "line\n", "\n", "€", "🦊\n", "x" * 50]), max_size=60).map("".join)


@given(texts, st.integers(0, 400))
def test_never_longer_than_the_limit_and_both_ends_are_kept(text: str, limit: int) -> None:
    cut = cut_middle(text, limit, where="the whole is in /tmp/out")
    assert len(cut) <= limit
    if len(text) <= limit:
        assert cut == text
    elif "left out" in cut:
        head, _, rest = cut.partition("[... ")
        count, _, tail = rest.partition(" ...]\n")
        left_out = int(count.split()[0])
        assert text.startswith(head.removesuffix("\n")) and text.endswith(tail)
        assert left_out in (len(text) - len(head) - len(tail), len(text) - len(head) - len(tail) + 1)
        assert len(head) + len(tail) >= limit // 4 - 60


def test_cut_between_lines() -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    cut = cut_middle(text, 300)
    assert all(line.startswith(("line ", "[... ")) for line in cut.splitlines())
    assert cut.startswith("line 0\n") and cut.endswith("line 999\n")


@given(st.text(min_size=1), st.data())
def test_no_character_is_split_at_the_cut(text: str, data: st.DataObject) -> None:
    raw = text.encode(errors="replace")
    end = data.draw(st.integers(0, len(raw)))
    begin = data.draw(st.integers(end, len(raw)))
    head, tail = decoded(raw[:end], raw[begin:])
    assert text.encode(errors="replace").decode().startswith(head) or not raw[begin:]
    if raw[begin:]:
        assert raw.decode().endswith(tail)


@given(st.binary(), st.binary())
def test_any_bytes_become_text(head: bytes, tail: bytes) -> None:
    for text in decoded(head, tail):
        text.encode()


@given(st.text(alphabet="ab \n\t€[]0m;"))
def test_plain_text_stays(text: str) -> None:
    assert plain(text) == text


def test_escapes_and_overwriting_go() -> None:
    assert plain("\x1b]0;title\x07\x1b[1;32mok\x1b[0m\r\n 1%\r 2%\rdone\n\x1b(") == "ok\ndone\n\x1b("
