import pytest

from till import money


@pytest.mark.parametrize(
    "text, cents", [("7", 700), ("12,5", 1250), ("1.234,50", 123450), ("-3,00", -300), ("+0,25", 25), ("\t2,75", 275)]
)
def test_amounts(text, cents):
    assert money.parse(text) == cents


@pytest.mark.parametrize("text", ["", "1,2,3", "12.5", "1.23,00", "1,234", "five"])
def test_what_is_no_amount(text):
    with pytest.raises(money.BadAmount):
        money.parse(text)


@pytest.mark.parametrize("cents, text", [(0, "0,00"), (5, "0,05"), (-123450, "-1.234,50"), (100000000, "1.000.000,00")])
def test_texts(cents, text):
    assert money.show(cents) == text


@pytest.mark.parametrize("cents, per_mille, share", [(1000, 190, 190), (50, 30, 2), (-50, 30, -2), (49, 10, 0)])
def test_shares(cents, per_mille, share):
    assert money.share(cents, per_mille) == share
