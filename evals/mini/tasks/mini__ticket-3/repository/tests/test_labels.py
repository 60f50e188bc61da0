from ticket import MAX_NUMBER
from ticket.labels import WIDTH, label


def test_a_label():
    assert label(1729, "Late show") == [" Late show", "    1P1V"]


def test_the_longest_code_fits():
    assert all(len(line) <= WIDTH for line in label(MAX_NUMBER, "A very long name of an event"))
