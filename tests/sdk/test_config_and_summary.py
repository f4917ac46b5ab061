"""Config is set once unless changed on purpose; the summary is what was asked for."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from typing import Any

import pytest

import localstore
from localstore.errors import ConfigError, UsageError
from localstore.format.columns import flatten
from tests.sdk.scripts import only_run


@dataclass
class Optimizer:
    name: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass
class Training:
    lr: float = 0.1
    optimizer: Optimizer = field(default_factory=Optimizer)


def stored_config(given: Any) -> dict[str, Any]:
    with localstore.init(project="config", config=given):
        pass
    return only_run().config


# ------------------------------------------------------------------ config
def test_config_comes_back_nested_as_it_was_given() -> None:
    given = {"lr": 1e-3, "model": {"layers": [1, 2], "act": None}, "tags": ["a"], "on": True}
    assert stored_config(given) == given


def test_config_takes_an_argparse_namespace() -> None:
    assert stored_config(argparse.Namespace(lr=0.5, names=["x"])) == {"lr": 0.5, "names": ["x"]}


def test_config_takes_a_dataclass() -> None:
    want = {"lr": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.999]}}
    assert stored_config(Training()) == want


@pytest.mark.parametrize("given", [5, "lr=1", [1, 2]], ids=repr)
def test_config_that_is_no_mapping_is_refused(given: Any) -> None:
    with pytest.raises(UsageError):
        localstore.init(project="config", config=given)


def test_config_has_items_and_attributes() -> None:
    with localstore.init(project="config", config={"lr": 0.1}) as run:
        run.config.batch = 32
        run.config["depth"] = 4
        run.config.update({"seed": 1}, width=2)
        assert (run.config.lr, run.config["batch"], run.config.get("none")) == (0.1, 32, None)
        assert list(run.config.keys()) == ["lr", "batch", "depth", "seed", "width"]
        assert dict(run.config) == run.config.as_dict() == eval(repr(run.config))  # noqa: S307
        assert ("lr" in run.config, len(run.config)) == (True, 5)
        with pytest.raises(AttributeError):
            _ = run.config.missing
        with pytest.raises(KeyError):
            _ = run.config["missing"]
    assert only_run().config == {"lr": 0.1, "batch": 32, "depth": 4, "seed": 1, "width": 2}


def test_a_config_value_does_not_change_by_accident() -> None:
    with localstore.init(project="config", config={"lr": 0.1, "nan": math.nan}) as run:
        run.config.lr = 0.1
        run.config.update(nan=math.nan)
        with pytest.raises(ConfigError, match=r"'lr' is 0\.1 and would become 0\.2"):
            run.config.lr = 0.2
        with pytest.raises(ConfigError):
            run.config.update({"new": 1, "lr": 0.3})
        assert "new" not in run.config
    assert only_run().config["lr"] == 0.1


def test_a_config_value_changes_on_purpose() -> None:
    with localstore.init(project="config", config={"lr": 0.1, "gone": 1}) as run:
        run.config.update({"lr": 0.2}, allow_val_change=True)
        del run.config["gone"]
    assert only_run().config == {"lr": 0.2}


def test_init_may_allow_every_change() -> None:
    with localstore.init(project="config", config={"lr": 0.1}, allow_val_change=True) as run:
        run.config.lr = 0.2
    assert only_run().config == {"lr": 0.2}


def test_defaults_change_nothing_that_is_set() -> None:
    with localstore.init(project="config", config={"lr": 0.1}) as run:
        run.config.setdefaults({"lr": 9, "seed": 1})
    assert only_run().config == {"lr": 0.1, "seed": 1}


def test_config_keys_named_as_methods_are_items() -> None:
    given = {"keys": 1, "update": 2, "items": 3, "_values": 4, "get": 5}
    assert stored_config(given) == given


# ------------------------------------------------------------------ summary
def summary_of(*rows: dict[str, Any], **definitions: Any) -> dict[str, Any]:
    with localstore.init(project="summary") as run:
        for name, words in definitions.items():
            run.define_metric(name, **words)
        for row in rows:
            run.log(row)
        own = run.summary.as_dict()
    assert run.summary.as_dict() == own
    assert only_run().summary == flatten(own)
    return own


def test_a_summary_holds_last_values() -> None:
    assert summary_of({"a": 1, "b": {"c": 2}}, {"a": 3}) == {"a": 3, "b.c": 2}


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ({"summary": "min"}, {"min": 1.0}),
        ({"summary": "max"}, {"max": 3.0}),
        ({"summary": "mean"}, {"mean": 2.0}),
        ({"summary": "first"}, {"first": 2.0}),
        ({"summary": "last"}, {"last": 3.0}),
        ({"summary": "best"}, {"best": 1.0}),
        ({"summary": "best", "goal": "maximize"}, {"best": 3.0}),
        ({"summary": "min,max"}, {"min": 1.0, "max": 3.0}),
    ],
    ids=repr,
)
def test_a_defined_metric_is_summed_up_as_asked(words: dict[str, str], want: Any) -> None:
    rows = ({"loss": 2.0}, {"loss": 1.0}, {"loss": math.nan, "other": 5}, {"loss": 3.0})
    assert summary_of(*rows, loss=words) == {"loss": want, "other": 5}


def test_a_metric_that_is_not_to_be_summed_up_is_not() -> None:
    assert summary_of({"loss": 1, "b": 2}, loss={"summary": "none"}) == {"b": 2}


def test_a_definition_that_comes_late_holds_for_what_was_logged_before() -> None:
    with localstore.init(project="summary") as run:
        run.log({"a": 1, "b": 1})
        run.flush()
        run.define_metric("a", summary="none")
        run.log({"b": 2})
    assert only_run().summary == {"b": 2}


def test_a_glob_defines_many_metrics() -> None:
    with localstore.init(project="summary") as run:
        run.define_metric("val/*", summary="max")
        run.log({"val/a": 1, "val/b": 2, "train": 3})
        run.log({"val/a": 0, "val/b": 1, "train": 0})
    assert only_run().summary == {"val/a.max": 1, "val/b.max": 2, "train": 0}


def test_what_is_set_wins_over_what_is_logged() -> None:
    with localstore.init(project="summary") as run:
        run.summary["best"] = 7
        run.summary.update({"note": "x"})
        run.log({"best": 1, "loss": 2})
        run.summary.loss = 5
        run.log({"best": 2, "loss": 3})
        assert (run.summary.best, run.summary["loss"]) == (7, 5)
    assert only_run().summary == {"best": 7, "note": "x", "loss": 5}


def test_what_is_deleted_stays_deleted() -> None:
    with localstore.init(project="summary") as run:
        run.log({"a": 1, "b": 2})
        del run.summary["a"]
        with pytest.raises(KeyError):
            del run.summary["never"]
    assert only_run().summary == {"b": 2}


def test_a_run_that_says_nothing_at_its_end_has_a_summary_all_the_same() -> None:
    run = localstore.init(project="summary")
    run.define_metric("a", summary="max")
    for value in (1, 3, 2):
        run.log({"a": value, "b": value})
    run.summary["c"] = 9
    assert only_run().summary == {"a.max": 3, "b": 2, "c": 9}
    run.finish()


@pytest.mark.parametrize("words", [{"summary": "avg"}, {"goal": "up"}], ids=repr)
def test_an_unknown_summary_is_refused(words: dict[str, Any]) -> None:
    with localstore.init(project="summary") as run, pytest.raises(UsageError):
        run.define_metric("a", **words)
