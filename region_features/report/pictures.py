"""The pictures of a page: a thumbnail in the page itself, or the reason why there is none; and the boxes on it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from region_features.images.thumbnail import make_thumbnail
from region_features.names import ClassNames
from region_features.records.failure import ImageFailure
from region_features.records.settings import PIXEL_LIMIT
from region_features.report.run_files import RunFiles
from region_features.report.view import ImageView

GALLERY_SIDE, FAILURE_SIDE = 640, 160


@dataclass(frozen=True)
class Picture:
    """A thumbnail as a `data:` address, or empty and the reason why there is none."""

    address: str
    reason: str = ""


class PictureReader:
    """Reads images where the run read them.

    Args:
        run: how; None where nothing but shards is known.
        settings: of the run.
    """

    def __init__(self, run: RunFiles | None, settings: Mapping[str, Any]) -> None:
        self._run = run
        self._pixel_limit, self._exif = settings.get("pixel_limit", PIXEL_LIMIT), bool(settings.get("exif"))
        self._imported = bool(settings.get("imported"))

    def of_view(self, view: ImageView) -> Picture:
        """Make the picture of an image that has a record."""
        if self._imported:
            return Picture("", "imported without its image")
        uri = self._run.uri_of(view.shard, view.img_id) if self._run else None
        return Picture("", "the plan does not say where it lies") if uri is None else self.read(uri, GALLERY_SIDE)

    def read(self, uri: str, side: int) -> Picture:
        """Make the picture of an image file."""
        if self._run is None:
            return Picture("", "not looked for")
        try:
            data = make_thumbnail(self._run.read_file(uri), side, self._pixel_limit, self._exif)
        except ImageFailure as failure:
            return Picture("", failure.reason)
        except OSError as error:
            return Picture("", error.strerror or str(error))
        return Picture("data:image/jpeg;base64," + base64.b64encode(data).decode())


def box_rows(view: ImageView, names: ClassNames | None) -> list[list[Any]]:
    """Return a row a box: x1, y1, x2, y2 in pixels, the object's confidence, and what it is called."""
    rows = []
    for index in range(len(view.boxes)):
        corners = [round(value, 1) for value in view.boxes[index].tolist()]
        rows.append([*corners, round(float(view.objects_conf[index]), 4), _called(view, index, names)])
    return rows


def _called(view: ImageView, index: int, names: ClassNames | None) -> str:
    if names is None or view.objects_id[index] >= len(names.objects):
        return f"object {view.objects_id[index]}"
    name = names.object_name(int(view.objects_id[index]))
    attribute = int(view.attrs_id[index])
    if view.attrs_conf[index] > 0 and attribute < len(names.attributes):
        return f"{names.attribute_name(attribute)} {name}"
    return name
