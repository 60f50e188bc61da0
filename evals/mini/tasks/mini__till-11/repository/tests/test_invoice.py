from till.invoice import Invoice, Line


def test_a_total():
    assert Invoice("1", [Line("Chair", 2, "12,50"), Line("Nail", 100, "0,25")]).total == 5000


def test_a_discount():
    invoice = Invoice("2", [Line("Chair", 1, "50,00")], discount=100)
    assert (invoice.total, invoice.total_text) == (4500, "45,00")


def test_what_was_given_back():
    assert Invoice("3", [Line("Chair", -1, "12,50"), Line("Nail", 2, "0,25")]).total == -1200


def test_tax():
    assert Invoice("4", [Line("Chair", 1, "119,00")]).tax == 1900


def test_the_text():
    assert Invoice("5", [Line("Chair", 2, "1.000,00")], discount=50).text().splitlines() == [
        "Invoice 5",
        "2 x Chair                   2.000,00",
        "discount                     -100,00",
        "total                       1.900,00",
        "of it tax                     303,36",
    ]
