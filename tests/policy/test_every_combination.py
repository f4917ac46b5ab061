"""What leaves: every combination of what the decision looks at, against a second writing of it."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from localstore.format.spec import DataClass
from localstore.policy.rules import Stamp
from localstored.policy import Conditions, Decider, Held, Leaves, Rules, decide
from tests.policy.cases import TAG, conditions_of, item_of, remote_of, rules_of
from tests.policy.oracle import CLASSES, Case, World, holds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstored.policy import Decision

ALL_CLASSES = (*CLASSES, "", "?")
WORLDS = [
    World(),
    World(metered=False, networks=frozenset({"Office"}), on_battery=False, minute=23 * 60),
    World(metered=True, interfaces=frozenset({"wg0"}), on_battery=True, percent=10, minute=300),
    World(metered=False, on_battery=True, percent=30, minute=360),
    World(metered=False, on_battery=True, percent=None, minute=12 * 60, captive=True),
]
TAGS: list[tuple[str, ...] | None] = [
    None,
    ("?",),
    ("secret",),
    ("host-names",),
    ("gone",),
    ("manual-data", "secret"),
]
TERMS: list[dict[str, Any]] = [
    {},
    {"network": "unmetered"},
    {"network": ["Office", "vpn:wg0"]},
    {"network": "vpn:wg0"},
    {"battery_above": 30},
    {"hours": (22 * 60, 6 * 60)},
    {"hours": (6 * 60, 22 * 60)},
    {"max_file": 1000},
]
WORDS = ("never", "manual", "auto")
RULES: dict[str, Any] = {
    "secret": {"artifact_name": ["secret-*"], "leave": "never"},
    "manual-data": {"artifact_type": "dataset", "leave": "manual"},
}
WEIGHT = ("hours", "power", "network", "manual", "size", "unknown", "never")


def check(case: Case, rules: Rules) -> Decision:
    """One case against the second writing; the decision names a rule that exists."""
    found = decide(
        item_of(case), remote_of(case), conditions_of(case.world), rules, manual=case.manual
    )
    wanted = holds(case)
    assert isinstance(found, Held if wanted else Leaves), (case, found, wanted)
    assert found.rule.level in ("built-in", "user", "project", "team")
    assert found.rule.rule
    assert found.rule.file == ("" if found.rule.level == "built-in" else found.rule.file)
    if isinstance(found, Held):
        strictest = max(wanted, key=WEIGHT.index)
        waits = strictest if strictest in ("hours", "power", "network", "manual") else ""
        assert found.waits == waits, (case, found, wanted)
        assert found.reason
    return found


def combinations(levels: tuple[dict[str, Any], ...]) -> Iterator[Case]:
    """Every class, tag, remote, world, size and asker under some files."""
    sizes = (10, 1000, 1001)
    remotes = (("cloud", False), ("stick", True))
    for data_class, tag, size, (remote, local), world, manual in itertools.product(
        ALL_CLASSES, TAGS, sizes, remotes, WORLDS, (False, True)
    ):
        if data_class or tag is None:
            yield Case(data_class, tag, size, remote, local, world, manual, levels)


def check_all(*levels: dict[str, Any]) -> int:
    ruled = {tag: rules_of(levels, tag or ()) for tag in TAGS}
    count = 0
    for case in combinations(levels):
        check(case, ruled[case.tag])
        count += 1
    return count


def test_without_a_file_the_built_in_defaults_decide() -> None:
    assert check_all() > 1000


@pytest.mark.parametrize("user", (*WORDS, None))
@pytest.mark.parametrize("project", (*WORDS, None))
def test_every_word_at_every_level_for_every_class(user: str | None, project: str | None) -> None:
    levels = tuple({"classes": dict.fromkeys(CLASSES, w)} if w else {} for w in (user, project))
    check_all(*levels)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("where", ["conditions", "rule", "remote", "stamped"])
def test_every_condition_in_every_place(terms: dict[str, Any], where: str) -> None:
    table: dict[str, Any] = {
        "conditions": {"conditions": terms, "rules": RULES},
        "rule": {"rules": {"media-only": {"classes": ["media"], **terms}}},
        "remote": {"remotes": {"cloud": {"conditions": terms}}, "rules": RULES},
        "stamped": {"rules": {**RULES, "secret": {"artifact_name": "secret-*", **terms}}},
    }[where]
    check_all(table, {"rules": RULES})
    check_all({}, table)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "scope",
    [{"remotes": ["cloud"]}, {"except_remotes": ["stick"]}, {"classes": ["media", "console"]}, {}],
)
def test_every_word_in_every_scope(word: str, scope: dict[str, Any]) -> None:
    check_all({"rules": {**RULES, "scoped": {**scope, "leave": word}}})
    check_all({"classes": {"console": "auto"}}, {"rules": {"scoped": {**scope, "leave": word}}})


@pytest.mark.parametrize("first", TERMS)
@pytest.mark.parametrize("word", WORDS)
def test_conditions_of_two_levels_beside_words(first: dict[str, Any], word: str) -> None:
    for second in TERMS:
        check_all(
            {"conditions": first, "classes": {"media": word}},
            {"conditions": second, "remotes": {"cloud": {"classes": {"media": "manual"}}}},
        )


# ------------------------------------------------------------------ promises
def random_level(chance: random.Random) -> dict[str, Any]:
    """Tables of one file."""
    table: dict[str, Any] = {}
    if chance.random() < 0.5:
        table["classes"] = {name: chance.choice(WORDS) for name in CLASSES if chance.random() < 0.4}
    if chance.random() < 0.5:
        table["conditions"] = dict(chance.choice(TERMS))
    table["rules"] = {
        name: {**rule, "leave": chance.choice(WORDS), **chance.choice(TERMS)}
        for name, rule in RULES.items()
        if chance.random() < 0.7
    }
    if chance.random() < 0.5:
        table["remotes"] = {
            "cloud": {
                "classes": {chance.choice(CLASSES): chance.choice(WORDS)},
                "conditions": dict(chance.choice(TERMS)),
            }
        }
    return table


def random_case(chance: random.Random, levels: tuple[dict[str, Any], ...]) -> Case:
    data_class = chance.choice(ALL_CLASSES)
    tag = chance.choice(TAGS) if data_class else None
    remote, local = chance.choice((("cloud", False), ("stick", True)))
    size, world = chance.choice((10, 5000)), chance.choice(WORLDS)
    return Case(data_class, tag, size, remote, local, world, chance.random() < 0.5, levels)


@pytest.mark.parametrize("seed", range(20))
def test_random_files_agree_with_the_second_writing(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(300):
        levels = tuple(random_level(chance) for _ in range(chance.choice((0, 1, 2))))
        case = random_case(chance, levels)
        check(case, rules_of(levels, case.tag or ()))


@pytest.mark.parametrize("seed", range(20))
def test_a_rule_that_is_added_never_loosens(seed: int) -> None:
    """Of two levels, of a remote's own table, of a named rule, of a condition."""
    chance = random.Random(seed)
    for _ in range(200):
        base = random_level(chance)
        more = random_level(chance)
        # A class that nobody has spoken of takes a person's word instead of the built-in.
        base["classes"] = {**dict.fromkeys(CLASSES, "auto"), **base.get("classes", {})}
        # So does a stamp whose rule nobody has any more.
        more["rules"] = {n: r for n, r in more["rules"].items() if n in base["rules"]}
        case = random_case(chance, (base,))
        tightened = Case(**{**vars(case), "levels": (base, more)})
        before = check(case, rules_of((base,), case.tag or ()))
        after = check(tightened, rules_of((base, more), case.tag or ()))
        assert isinstance(after, Held) or isinstance(before, Leaves)


def test_a_remote_or_a_team_can_only_tighten() -> None:
    for data_class in CLASSES:
        case = Case(data_class, None, 10, "cloud", False, World(), False)
        loose = {"classes": dict.fromkeys(CLASSES, "auto")}
        strict = {"classes": dict.fromkeys(CLASSES, "never")}
        by_remote = rules_of(({"remotes": {"cloud": loose}},))
        by_team = rules_of(({}, {}, loose))
        for rules in (by_remote, by_team):
            found = decide(
                item_of(case), remote_of(case), conditions_of(World()), rules, manual=True
            )
            assert isinstance(found, Held) == (data_class == "console")
        held = decide(
            item_of(case),
            remote_of(case),
            conditions_of(World()),
            rules_of(({}, {}, strict)),
            manual=True,
        )
        assert isinstance(held, Held)
        assert held.rule.level == ("built-in" if data_class == "console" else "team")


def test_what_repeats_another_class_obeys_the_rules_of_both() -> None:
    tag = Stamp(like=int(DataClass.METRICS))
    for meta, metrics, manual in itertools.product(WORDS, WORDS, (False, True)):
        rules = rules_of(({"classes": {"meta": meta, "metrics": metrics}},))
        rules = replace(rules, stamps={TAG: tag})
        case = Case("meta", ("like",), 10, "cloud", False, World(), manual)
        found = decide(item_of(case), remote_of(case), Conditions(), rules, manual=manual)
        free = {"auto", "manual"} if manual else {"auto"}
        assert isinstance(found, Leaves) == ({meta, metrics} <= free)


def test_the_world_that_is_not_known_meets_no_condition() -> None:
    for terms in TERMS[1:7]:
        if "hours" in terms:
            continue
        case = Case("media", None, 10, "cloud", False, World(), False, ({"conditions": terms},))
        assert isinstance(check(case, rules_of(case.levels)), Held)


def test_many_files_are_judged_as_each_would_be() -> None:
    chance = random.Random(5)
    for _ in range(100):
        levels = (random_level(chance), random_level(chance))
        first = random_case(chance, levels)
        stamp = ("manual-data", "secret")
        rules = rules_of(levels, stamp)
        decider = Decider(remote_of(first), conditions_of(first.world), rules, manual=first.manual)
        for _ in range(40):
            other = random_case(chance, levels)
            item = item_of(other)
            alone = decide(
                item, remote_of(first), conditions_of(first.world), rules, manual=first.manual
            )
            found = decider.item(item)
            assert type(found) is type(alone)
            assert found.rule == alone.rule
