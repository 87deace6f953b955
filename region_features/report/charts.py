"""Charts as inline SVG, drawn by matplotlib without its global state; texts stay texts."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from region_features.report.histogram import Histogram

_BAR, _INK, _RULE = "#0072B2", "#4a4f57", "#d9dce1"
_INCHES = (4.4, 2.3)
_FEW_DECADES = 2.5
# The same charts give the same bytes: no date, and names of the parts that do not depend on a random number.
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "region_features",
    "font.size": 9,
    "font.family": "sans-serif",
}
_NO_METADATA: dict[str, str | None] = {"Date": None, "Creator": None, "Format": None, "Type": None}


def share_chart(histogram: Histogram, label: str) -> str:
    """Draw all bins of a histogram of numbers from 0 to 1; `label` stands below the horizontal axis."""
    return _draw(histogram.edges, histogram.counts, label)


def count_chart(histogram: Histogram, label: str) -> str:
    """Draw a histogram of whole numbers, from the first bin that holds any to the last."""
    edges, counts = histogram.occupied()

    def mark(axes: Axes) -> None:
        axes.set_xlim(max(-0.5, edges[0] - 3), edges[-1] + 3)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))

    return _draw(edges, counts, label, mark)


def ratio_chart(histogram: Histogram, label: str) -> str:
    """Draw a histogram of bins of equal ratio on a logarithmic axis, from the first bin that holds any to the last."""
    edges, counts = histogram.occupied()

    def mark(axes: Axes) -> None:
        axes.set_xscale("log")
        decades = np.log10(edges[-1] / edges[0])
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < _FEW_DECADES else (1,)))
        axes.xaxis.set_major_formatter("{x:.3g}")
        axes.xaxis.set_minor_formatter(NullFormatter())

    return _draw(edges, counts, label, mark)


def rate_chart(edges: NDArray[np.float64], rates: NDArray[np.float64], label: str) -> str:
    """Draw images a second over time.

    Args:
        edges: of the spans of time, in the unit that `label` names.
        rates: in each span.
        label: of the horizontal axis.
    """

    def mark(axes: Axes) -> None:
        axes.set_ylabel("images/s", color=_INK)

    return _draw(edges, rates, label, mark, whole=False)


def _draw(
    edges: NDArray[Any],
    heights: NDArray[Any],
    label: str,
    mark: Callable[[Axes], None] | None = None,
    whole: bool = True,
) -> str:
    """Draw bars over a horizontal axis with a label; `mark` sets the axes up, `whole` says that heights are counts."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_RULE)
        axes.tick_params(which="both", colors=_INK, length=0)
        axes.grid(axis="y", color=_RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=whole))
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.stairs(heights, edges, fill=True, color=_BAR)
        axes.set_xlabel(label)
        if mark:
            mark(axes)
        axes.set_ylim(bottom=0)
        axes.xaxis.label.set_color(_INK)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", transparent=True, metadata=_NO_METADATA)
    return _inline(svg.getvalue())


def _inline(document: str) -> str:
    """Take the SVG element out of its document, and let the page say how large it is."""
    tag, rest = document[document.index("<svg") :].split(">", 1)
    return re.sub(r' (?:width|height)="[^"]*"', "", tag) + ">" + rest
