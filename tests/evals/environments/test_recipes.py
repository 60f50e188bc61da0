"""Recipes: what is read, which one serves an instance, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.environments.recipes import RecipeBroken, Recipes, read
from tests.evals.environments.rows import instance
from tests.shared_data import SHARED, needs_shared

_HEAD = "format = 1\n"


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def entry(**fields: str) -> str:
    said = {"name": '"mine"', "repo": '"acme/lib"', "versions": '["1.0"]', **fields}
    return "[[recipe]]\n" + "".join(f"{name} = {value}\n" for name, value in said.items() if value)


def test_a_recipe_is_found_by_instance_before_version_and_ours_come_last(tmp_path: Path) -> None:
    text = entry(name='"by-version"') + entry(name='"by-id"', versions="", instances='["acme__lib-1"]')
    recipes = Recipes.load([written(tmp_path, _HEAD + text)])
    assert recipes.find(instance()).name == "by-id"  # type: ignore[union-attr]
    assert recipes.find(instance("acme__lib-2")).name == "by-version"  # type: ignore[union-attr]
    assert recipes.find(instance("acme__lib-2", version="1.1")) is None
    assert recipes.find(instance("acme__lib-2", repo="acme/other")) is None


def test_a_users_recipe_goes_before_a_built_in_one(tmp_path: Path) -> None:
    flask = instance("pallets__flask-5014", repo="pallets/flask", version="2.3")
    text = entry(name='"mine"', repo='"pallets/flask"', versions='["2.3"]')
    assert Recipes.load().find(flask).name == "flask-2.3"  # type: ignore[union-attr]
    assert Recipes.load([written(tmp_path, _HEAD + text)]).find(flask).name == "mine"  # type: ignore[union-attr]
    assert Recipes.load(built_in=False).known == ()


def test_a_folder_of_toml_and_json(tmp_path: Path) -> None:
    written(tmp_path, _HEAD + entry(name='"a"'))
    row = {"name": "b", "repo": "acme/lib", "versions": ["2.0"], "env": {"A": "1"}}
    written(tmp_path, json.dumps({"format": 1, "recipe": [row]}), "b.json")
    written(tmp_path, "not read", "notes.txt")
    known = Recipes.load([tmp_path], built_in=False).known
    assert [recipe.name for recipe in known] == ["b", "a"]
    assert known[0].env == {"A": "1"}


def test_pins_of_another_recipe_are_below_its_own(tmp_path: Path) -> None:
    text = (
        entry(name='"old"', pins='["a.b==1", "C==2"]')
        + entry(name='"new"', versions='["2.0"]', pins='["A_B==3", "d==4"]', pins_of='"old"')
    )  # fmt: skip
    _, new = read(written(tmp_path, _HEAD + text))
    assert new.pins == ("A_B==3", "C==2", "d==4")


def test_the_hash_changes_with_everything_that_it_says(tmp_path: Path) -> None:
    def digest(**fields: str) -> str:
        return read(written(tmp_path, _HEAD + entry(**fields)))[0].sha256

    plain = digest()
    assert plain == digest()
    others = [digest(pins='["a==1"]'), digest(install='"make"'), digest(env='{ A = "1" }'), digest(python='"3.9"')]
    assert len({plain, *others}) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs `format = 1`"),
        ("format = 2\n" + entry(), "needs `format = 1`"),
        ("format = 1\nrecipe = 3\n", "needs `format = 1`"),
        ("format = \n", "can't be read as toml"),
        (_HEAD + entry(name='"a b"'), "needs a `name`"),
        (_HEAD + entry() + entry(), "mine is there twice"),
        (_HEAD + entry(versions=""), "it serves nothing"),
        (_HEAD + entry(pins='["a>=1"]'), "'a>=1' is no pin"),
        (_HEAD + entry(pins='["a==1; rm -rf /"]'), "is no pin"),
        (_HEAD + entry(pins='["-r other.txt"]'), "is no pin"),
        (_HEAD + entry(pins='"a==1"'), "`pins` is a list of texts"),
        (_HEAD + entry(python='"three"'), "write it as 3.11"),
        (_HEAD + entry(python="3.11"), "`python` is text"),
        (_HEAD + entry(env='{ "A B" = "1" }'), "no name of a variable"),
        (_HEAD + entry(env='{ A = 1 }'), "`env` is a table of texts"),
        (_HEAD + entry(instal='"x"'), "there is no `instal`"),
        (_HEAD + entry(pins_of='"nobody"'), "no recipe above it is called"),
        (_HEAD + entry(pins_of='["mine"]'), "no recipe above it is called"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeBroken, match=said) as caught:
        read(written(tmp_path, text))
    assert "mine.toml" in str(caught.value)


@needs_shared
def test_every_runnable_instance_has_a_recipe_with_the_pins_that_it_was_shown_to_run_with() -> None:
    recipes = Recipes.load()
    rows = [json.loads(line) for line in (SHARED / "data/verified_runnable.jsonl").read_text().splitlines()]
    assert len(rows) == 14
    for row in rows:
        said = row["instance"]
        found = recipes.find(instance(said["instance_id"], repo=said["repo"], version=said["version"]))
        assert found is not None, said["instance_id"]
        assert set(row["env"]["pip_freeze"]) - set(found.pins) <= {"pywatchman==4.0.0"}  # Django's; needs a compiler
        assert row["env"]["env_vars"] == found.env
        assert row["test_cmd"].startswith(found.test_command)
