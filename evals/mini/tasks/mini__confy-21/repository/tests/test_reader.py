import pytest

from confy import ConfigError, load, parse
from confy.__main__ import main

TEXT = """\
owner = Ada
# for the web servers
[server]
name = "web #1, really"   # not the old one
port = 8080
debug = no
hosts = a.example, "b, c", 3
"""


def test_sections_and_values():
    assert parse(TEXT) == {
        "": {"owner": "Ada"},
        "server": {"name": "web #1, really", "port": 8080, "debug": False, "hosts": ["a.example", "b, c", 3]},
    }


def test_the_last_one_counts():
    assert parse("[a]\nx = 1\n[b]\n[a]\nx = 2\ny = 3") == {"a": {"x": 2, "y": 3}, "b": {}}


@pytest.mark.parametrize("line", ["nonsense", "[open", "1 = 2", 'x = "open'], ids=["words", "open", "number", "quote"])
def test_errors_name_the_line(line):
    with pytest.raises(ConfigError, match="site.conf:2: ") as raised:
        parse(f"a = 1\n{line}\n", "site.conf")
    assert (raised.value.source, raised.value.line) == ("site.conf", 2)


def test_a_file(tmp_path):
    file = tmp_path / "a.conf"
    file.write_text(TEXT)
    assert load(file) == load(str(file)) == parse(TEXT)
    with pytest.raises(OSError):
        load(tmp_path / "b.conf")


def test_the_command(tmp_path, capsys):
    file = tmp_path / "a.conf"
    file.write_text(TEXT)
    assert main([str(file), "server.port"]) == 0
    assert capsys.readouterr().out == "8080\n"
    assert main([str(file), "server.colour"]) == 1
    assert main([str(tmp_path / "b.conf")]) == 1
    assert main([]) == 2
