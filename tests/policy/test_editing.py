"""One value of a policy file changes; everything else stays as a person wrote it."""

from __future__ import annotations

import random
import tomllib
from typing import Any

import pytest

from localstore.errors import BadSetting, NotFound
from localstore.policy.editing import with_value, without

TEXT = """# mine
[classes]   # by class
media = "never"  # too large
console = "manual"

# nights
[conditions]
hours = [
  "22:00-06:00",  # weekdays
  "sat 00:00-24:00",
]
battery_above = 30

[rules."x"]
leave = "never"
"""


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("classes", "media"), "auto"),
        (("classes", "code"), "never"),
        (("conditions", "hours"), "01:00-02:00"),
        (("conditions", "network"), ["a", 'b"c']),
        (("rules", "x", "leave"), "auto"),
        (("rules", "y", "artifact_name"), "secret-*"),
        (("remotes", "my cloud", "classes", "media"), "never"),
        (("limits", "upload"), "2 MiB/s"),
    ],
)
def test_a_value_is_set_in_its_place(keys: tuple[str, ...], value: Any) -> None:
    made = with_value(TEXT, keys, value)
    found: Any = tomllib.loads(made)
    for key in keys:
        found = found[key]
    assert found == value
    for comment in ("# mine", "# by class", "# nights"):
        assert comment in made
    again = with_value(made, keys, value)
    assert again == made


@pytest.mark.parametrize(
    "keys",
    [("classes", "media"), ("conditions", "hours"), ("rules", "x"), ("conditions",), ("classes",)],
)
def test_what_is_taken_out_is_gone_and_nothing_else(keys: tuple[str, ...]) -> None:
    wanted = tomllib.loads(TEXT)
    inner = wanted
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    found = tomllib.loads(without(TEXT, keys))
    assert dict(_flat(found)) == dict(_flat(wanted))
    assert "# mine" in without(TEXT, keys)


def test_what_is_not_set_cannot_be_taken_out() -> None:
    for keys in (("classes", "code"), ("limits", "upload"), ("rules", "y")):
        with pytest.raises(NotFound, match="is not set"):
            without(TEXT, keys)


@pytest.mark.parametrize(
    "text", ["classes = {media = 'never'}", "classes.media = 'never'", "[a]\nb = 1\n[[c]]\nd = 1"]
)
def test_a_form_that_cannot_be_edited_is_left_alone(text: str) -> None:
    for keys in (("classes", "media"), ("a", "b")):
        try:
            made = with_value(text, keys, "auto")
        except BadSetting:
            continue
        assert tomllib.loads(made)[keys[0]][keys[1]] == "auto"


@pytest.mark.parametrize("seed", range(10))
def test_any_order_of_changes_gives_what_was_said_last(seed: int) -> None:
    chance = random.Random(seed)
    text, wanted = "", dict[tuple[str, ...], Any]()
    for _ in range(60):
        keys = chance.choice(
            [("classes", "media"), ("classes", "code"), ("rules", "a", "leave"),
             ("rules", "b", "leave"), ("remotes", "r s", "classes", "media")]
        )  # fmt: skip
        if keys in wanted and chance.random() < 0.4:
            text = without(text, keys)
            del wanted[keys]
        else:
            wanted[keys] = chance.choice(["never", "auto", ["a", "b"]])
            text = with_value(text, keys, wanted[keys])
    assert dict(_flat(tomllib.loads(text))) == wanted


def _flat(table: dict[str, Any], above: tuple[str, ...] = ()) -> Any:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, (*above, key))
        else:
            yield (*above, key), value
