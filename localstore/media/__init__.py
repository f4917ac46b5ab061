"""Pictures, sound, tables and charts that a script logs.

Importing this package loads nothing: each name below is loaded when it is first used, and numpy,
Pillow and ffmpeg only when something that needs them is made. Nothing here knows of segments,
runs or keys: media become plain values and bytes, and come back from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localstore.media import plot
    from localstore.media.audio import Audio
    from localstore.media.base import Media, MediaFile
    from localstore.media.chart import CustomChart
    from localstore.media.documents import Html, Text
    from localstore.media.figures import Plotly
    from localstore.media.image import Image
    from localstore.media.object3d import Object3D
    from localstore.media.plot import plot_table
    from localstore.media.table import Table
    from localstore.media.video import Video
    from localstore.sdk.values import Histogram

__all__ = [
    "Image", "Video", "Audio", "Text", "Html", "Table", "Plotly", "Object3D", "Histogram",
    "CustomChart", "plot", "plot_table",
    "Media", "MediaFile",
]  # fmt: skip

_HOMES = {
    "Image": "localstore.media.image",
    "Video": "localstore.media.video",
    "Audio": "localstore.media.audio",
    "Text": "localstore.media.documents",
    "Html": "localstore.media.documents",
    "Table": "localstore.media.table",
    "Plotly": "localstore.media.figures",
    "Object3D": "localstore.media.object3d",
    "Histogram": "localstore.sdk.values",
    "CustomChart": "localstore.media.chart",
    "plot_table": "localstore.media.plot",
    "Media": "localstore.media.base",
    "MediaFile": "localstore.media.base",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    from importlib import import_module

    if name == "plot":
        return import_module("localstore.media.plot")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'localstore.media' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
