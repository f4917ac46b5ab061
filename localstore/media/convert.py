"""What scripts log without wrapping it: figures, pictures of Pillow, frames of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from localstore.media.base import Media

_LIBRARIES: Final = ("matplotlib", "plotly", "PIL", "pandas")


def is_foreign(kind: type) -> bool:
    """Whether values of a type may be media of other libraries; imports none of them."""
    return any(
        base.__module__.partition(".")[0] in _LIBRARIES and _is_shown(base) for base in kind.__mro__
    )


def _is_shown(base: type) -> bool:
    home, name = base.__module__.partition(".")[0], base.__name__
    if home == "matplotlib":
        return name in ("Figure", "FigureBase", "_AxesBase", "Axes")
    if home == "plotly":
        return hasattr(base, "to_plotly_json") and name in ("BaseFigure", "Figure", "FigureWidget")
    return (home, name) in (("PIL", "Image"), ("pandas", "DataFrame"))


def is_pyplot(value: Any) -> bool:
    """Whether a value is the module `matplotlib.pyplot`, which stands for its current figure."""
    return getattr(value, "__name__", "") == "matplotlib.pyplot" and hasattr(value, "gcf")


def as_media(value: Any) -> Media | None:
    """The media that a value of another library is, or None.

    Raises:
        UsageError: it should be one and cannot be drawn.
    """
    if not is_foreign(type(value)) and not is_pyplot(value):
        return None
    from localstore.media.figures import Plotly, is_plotly

    if is_plotly(value):
        return Plotly(value)
    if type(value).__name__ == "DataFrame" or hasattr(value, "itertuples"):
        from localstore.media.table import Table

        return Table(dataframe=value)
    from localstore.media.image import Image

    return Image(value)
