import pytest

from till.invoice import Invoice, Line
from till.payments import open_amounts, read


def test_what_is_open():
    invoices = [Invoice("1", [Line("Chair", 1, "50,00")]), Invoice("2", [Line("Nail", 4, "0,25")])]
    payments = read(["2024-05-01;1;30,00", "", "2024-05-02;2;1,00", "2024-05-03;9;5,00"])
    assert open_amounts(invoices, payments) == {"1": 2000, "9": -500}


def test_a_line_that_is_no_payment():
    with pytest.raises(ValueError, match="line 2"):
        read(["2024-05-01;1;30,00", "2024-05-01;1;thirty"])
    with pytest.raises(ValueError, match="line 1"):
        read(["2024-05-01;1"])
