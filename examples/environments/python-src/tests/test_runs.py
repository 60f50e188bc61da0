from runs import runs


def test_runs():
    assert runs("aab") == [("a", 2), ("b", 1)]
    assert runs("") == []
