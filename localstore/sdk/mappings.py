"""`run.config` and `run.summary`: mappings that record each change when it happens."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from localstore.errors import ConfigError
from localstore.sdk.values import config_mapping, encode_any, plain, text_key

if TYPE_CHECKING:
    from collections.abc import Callable


class _Attributes(MutableMapping[str, Any]):
    """Item and attribute access to the same values."""

    _values: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self[key]
        except KeyError:
            raise AttributeError(f"{type(self).__name__.lower()} has no {key!r}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        if key.startswith("_"):
            object.__setattr__(self, key, value)
        else:
            self[key] = value

    def __delattr__(self, key: str) -> None:
        del self[key]

    def __repr__(self) -> str:
        return repr(self._values)

    def as_dict(self) -> dict[str, Any]:
        """A copy as a plain dict."""
        return dict(self._values)


class Config(_Attributes):
    """The configuration of a run.

    A value that was set is not changed by accident: setting another one needs
    `update(..., allow_val_change=True)`.
    """

    def __init__(
        self,
        record: Callable[[dict[str, Any], list[str]], None],
        values: dict[str, Any],
        *,
        allow_val_change: bool = False,
    ) -> None:
        self._record, self._values, self._allow = record, dict(values), allow_val_change

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._record({}, [key])

    def update(
        self, source: Any = None, /, allow_val_change: bool | None = None, **more: Any
    ) -> None:
        """Set several values at once, all or none.

        Args:
            source: a dict, an argparse namespace, a dataclass or absl flags.
            allow_val_change: whether values that are set may change.

        Raises:
            ConfigError: a value is set and differs, and changes were not allowed.
        """
        given = {**config_mapping(source), **config_mapping(more)}
        allowed = self._allow if allow_val_change is None else allow_val_change
        changed = {}
        for key, value in given.items():
            if key in self._values:
                if encode_any(self._values[key]) == encode_any(value):
                    continue
                if not allowed:
                    raise ConfigError(
                        f"config {key!r} is {self._values[key]!r} and would become {value!r}",
                        hint="config.update({...}, allow_val_change=True) changes it on purpose",
                    )
            changed[key] = value
        if changed:
            self._values.update(changed)
            self._record(changed, [])

    def setdefaults(self, source: Any) -> None:
        """Set those values that are not set yet."""
        given = config_mapping(source)
        self.update({key: value for key, value in given.items() if key not in self._values})


class Summary(_Attributes):
    """The summary of a run: what was set here, over what was folded from the points."""

    def __init__(
        self,
        record: Callable[[dict[str, Any], list[str]], None],
        folded: Callable[[], dict[str, Any]],
    ) -> None:
        self._record, self._folded = record, folded
        self._set: dict[str, Any] = {}
        self._deleted: set[str] = set()

    @property
    def _values(self) -> dict[str, Any]:  # type: ignore[override]  # computed when asked for
        folded = {k: v for k, v in self._folded().items() if k not in self._deleted}
        return {**folded, **self._set}

    def explicit(self) -> dict[str, Any]:
        """What was set, without what was folded."""
        return dict(self._set)

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self._values:
            raise KeyError(key)
        self._set.pop(key, None)
        self._deleted.add(key)
        self._record({}, [key])

    def update(self, source: Any = None, /, **more: Any) -> None:
        """Set several values at once; what is set wins over what is logged later."""
        given = {text_key(k): plain(v) for k, v in {**dict(source or {}), **more}.items()}
        self._set.update(given)
        self._deleted.difference_update(given)
        self._record(given, [])
