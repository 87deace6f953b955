"""The page: one HTML file that holds its style, script, charts and pictures, and asks for nothing else.

Everything that comes from a run is escaped by the template. A policy (Content-Security-Policy) lets the browser run the
page's one script, known by its hash, and no other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from region_features.drawing.regions import COLOURS
from region_features.report.pictures import Picture
from region_features.report.view import ImageView

# Pictures begin with about so many boxes each.
_BOXES_SHOWN = 10


@dataclass(frozen=True)
class Shown:
    """An image of the page: what it is, its picture, its boxes as `box_rows` gives them, and what is said of it."""

    view: ImageView
    picture: Picture
    boxes: list[list[Any]]
    note: str = ""


def render_page(content: Mapping[str, Any], shown: list[Shown]) -> str:
    """Return the page.

    Args:
        content: what the template names, see `page.html.j2`.
        shown: every image with boxes, in the order of the numbers by which `content` refers to them.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["grouped"] = lambda number: f"{number:,}"
    template = environment.from_string(_read("page.html.j2"))
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = {
        "colours": COLOURS,
        "images": [
            {
                "id": item.view.img_id,
                "shard": item.view.shard.rpartition("/")[2],
                "width": item.view.width,
                "height": item.view.height,
                "boxes": item.boxes,
            }
            for item in shown
        ],
    }
    return template.render(
        **content,
        shown=shown,
        data=data,
        least_confidence=first_confidence(shown),
        style=Markup(_read("page.css")),
        script=Markup(script),
        script_digest=digest,
    )


def first_confidence(shown: list[Shown]) -> float:
    """Return the confidence, in steps of 0.05, over which the middle one of the pictures has about ten boxes."""
    tenth = sorted(item.boxes[min(_BOXES_SHOWN, len(item.boxes)) - 1][4] for item in shown if item.boxes)
    return int(tenth[len(tenth) // 2] * 20) / 20 if tenth else 0.0


def _read(name: str) -> str:
    return (files("region_features.report") / name).read_text(encoding="utf-8")
