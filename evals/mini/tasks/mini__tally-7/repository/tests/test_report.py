from datetime import date, timedelta

from tally import by_day, by_tag, parse, table
from tally.__main__ import main

LOG = """\
2024-03-05 08:00-09:30 mails
2024-03-04 09:15-11:40 review #billing
2024-03-04 13:00-14:00 call #billing #acme
"""


def test_days_are_in_order():
    assert by_day(parse(LOG.splitlines())) == {
        date(2024, 3, 4): timedelta(hours=3, minutes=25),
        date(2024, 3, 5): timedelta(hours=1, minutes=30),
    }
    assert list(by_day(parse(LOG.splitlines()))) == [date(2024, 3, 4), date(2024, 3, 5)]


def test_two_tags_count_under_both():
    assert by_tag(parse(LOG.splitlines())) == {
        "-": timedelta(hours=1, minutes=30),
        "acme": timedelta(hours=1),
        "billing": timedelta(hours=3, minutes=25),
    }


def test_the_table_has_a_sum():
    assert table({"a": timedelta(hours=9), "bc": timedelta(minutes=65)}).splitlines() == [
        "a        9:00",
        "bc       1:05",
        "total   10:05",
    ]


def test_the_command(tmp_path, capsys):
    log = tmp_path / "hours.log"
    log.write_text(LOG)
    assert main([str(log), "--by", "tag"]) == 0
    assert "billing    3:25" in capsys.readouterr().out


def test_the_command_names_a_bad_line(tmp_path, capsys):
    log = tmp_path / "hours.log"
    log.write_text("nine to five\n")
    assert main([str(log)]) == 1
    assert "line 1" in capsys.readouterr().err
