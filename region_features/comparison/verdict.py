"""What made two sets of records differ, by the pattern of their differences; docs/compare.md says what it rests on.

The tests go from what leaves no doubt, boxes or features that are equal, to what only makes a cause likely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from region_features.comparison.image import TWIN
from region_features.comparison.resize import scale_of
from region_features.comparison.totals import Side, Totals

SAME, PRECISION = "same network", "same network, other precision"
NUMBER = "other number of boxes or threshold"
REGRESSED, RESCALED = "boxes regressed", "boxes at the resized scale"
OTHER_UNITS = "boxes in other units"
SWAPPED, PIXELS = "RGB and BGR swapped", "other resize or means"
PROPOSALS = "other proposals (anchor order, RPN)"
NETWORK = "other network"
# Exit status 0 of the command.
SAME_NETWORK = (SAME, PRECISION)

# Differences of features, shares of the spread. Rounding in another order gives at most 1e-5, float16 or bfloat16 up to
# 0.03; a swap of channels at least 0.3.
_ROUNDING, _PRECISION, _SWAP = 1e-4, 0.05, 0.25
_ALL, _MOST, _SOME = 0.95, 0.5, 0.01  # ties that rounding decides change one box in a hundred
_RESEMBLANCE = 0.2  # of features of another network: 0
_TWIN_OVERLAP = 0.95  # IoU: rounding moves a box by less, regression by more
_COLOURED = 20  # boxes


@dataclass(frozen=True)
class Verdict:
    """The causes that fit, the most likely first, and the numbers that say so, one line each."""

    causes: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        """The causes as one text."""
        return ", or ".join(self.causes)


def judge(totals: Totals) -> Verdict:
    """Name what made the records differ.

    Raises:
        ValueError: no image was compared, no image has boxes on both sides, or there are no features.
    """
    if not totals.comparable:
        raise ValueError("expected images with boxes on both sides, found none; there is nothing to compare")
    if set(totals.one.widths) | set(totals.other.widths) == {0}:
        raise ValueError("expected features, found none on either side; boxes alone do not tell networks apart")
    if set(totals.one.widths) != set(totals.other.widths):
        return Verdict((NETWORK,), (f"features of width {_widths(totals.one)} and {_widths(totals.other)}",))
    # Pictures without colour are the same when red and blue are swapped: they say nothing of what changed the others.
    changed = totals if totals.unchanged.all() else totals.of(~totals.unchanged)
    tests: tuple[Callable[[Totals, Totals], Verdict | None], ...] = (
        _other_units,
        _same_boxes,
        _regressed,
        _nearly_the_same,
        _other_boxes,
        _other_network,
    )
    for test in tests:
        verdict = test(totals, changed)
        if verdict:
            return verdict
    return _other_pixels(totals, changed)


def _widths(side: Side) -> str:
    return ", ".join(str(width) for width in sorted(side.widths))


def _error(totals: Totals) -> float:
    """The median difference of features at the same boxes, or at near ones where few are the same."""
    field = "same_error" if totals.of_comparable("same") >= _MOST else "near_error"
    return totals.quantile(field)


def _same_features(totals: Totals) -> str:
    return f"features at the same boxes differ by {totals.quantile('same_error'):.1e} of the spread between boxes"


def _other_units(totals: Totals, changed: Totals) -> Verdict | None:
    scale_x, scale_y = totals.column("scale_x"), totals.column("scale_y")
    rescaled = (scale_x != 1) | (scale_y != 1)
    if rescaled.mean() < _MOST:
        return None
    x, y = scale_x[rescaled], scale_y[rescaled]
    resized = np.array([scale_of(height, width, 600, 1000) for height, width in totals.sizes[rescaled].tolist()])
    by_resize = max((np.abs(np.log(side / resized**sign)) < 0.01).mean() for side in (x, y) for sign in (1, -1))
    reasons = [f"in {rescaled.mean():.0%} of the images B's boxes are A's times {np.median(x):.4g} (x, median)"]
    if by_resize >= _MOST:
        reasons.append(f"in {by_resize:.0%} of these that is the scale of 600/1000")
    if totals.of_comparable("same") + totals.of_comparable("near") < _MOST or _error(totals) > _PRECISION:
        reasons.append("and the boxes or features differ beside that: compare again with boxes in the same units")
    else:
        reasons.append(_same_features(totals))
    return Verdict((RESCALED if by_resize >= _MOST else OTHER_UNITS,), tuple(reasons))


def _same_boxes(totals: Totals, changed: Totals) -> Verdict | None:
    same, error = totals.of_comparable("same"), totals.quantile("same_error")
    if same < _ALL or changed.of_comparable("same") < _MOST or not error <= _PRECISION:
        return None
    reasons = [f"{same:.1%} of the boxes that both could have are the same", _same_features(totals)]
    counts = totals.column("boxes"), totals.column("other_boxes")
    other_counts = float((counts[0] != counts[1]).mean())
    if other_counts > _SOME:
        means = [f"{count.mean():.1f}" for count in counts]
        reasons.insert(0, f"{means[0]} and {means[1]} boxes an image; {other_counts:.1%} of the images differ in it")
        return Verdict((NUMBER,), tuple(reasons))
    in_order = totals.column("in_order").mean()
    reasons.insert(0, f"{in_order:.1%} of the images have the same boxes in the same order")
    if error <= _ROUNDING:
        return Verdict((SAME,), tuple(reasons))
    return Verdict((PRECISION,), tuple(reasons))


def _regressed(totals: Totals, changed: Totals) -> Verdict | None:
    twins, overlap = changed.of_comparable("twins"), changed.quantile("twin_overlap")
    if twins >= _MOST and changed.share("moved_twins", "twins") >= _MOST and overlap < _TWIN_OVERLAP:
        return Verdict(
            (REGRESSED,),
            (
                f"{twins:.1%} of the boxes have a box of equal features on the other side",
                f"{changed.share('moved_twins', 'twins'):.1%} of these are at another place, with an IoU of "
                f"{overlap:.2f} (median)",
            ),
        )
    return None


def _nearly_the_same(totals: Totals, changed: Totals) -> Verdict | None:
    """All boxes, moved by rounding in the trunk or in the picture."""
    paired, error = changed.of_comparable("same") + changed.of_comparable("near"), _error(changed)
    one_input = changed.of_comparable("same") >= _SOME and changed.quantile("same_error") <= _ROUNDING
    # Features of other boxes would differ, too: these boxes alone are rounded, as UNITER's are.
    one_input = one_input and changed.share("near_twins", "near") < _ALL
    if paired < _MOST or one_input or not error <= _PRECISION:
        return None
    reasons = (
        f"{paired:.1%} of the boxes are the same or overlap by more than two proposals do, moved by "
        f"{changed.quantile('shift'):.2f} pixels (median)",
        f"their features differ by {error:.1e} of the spread between boxes",
        "means or a decoder that differ by less than a grey level look the same",
    )
    return Verdict((PRECISION,), reasons)


def _other_boxes(totals: Totals, changed: Totals) -> Verdict | None:
    """One network's features at other boxes."""
    same, near = changed.of_comparable("same"), changed.of_comparable("near")
    same_input = same >= _SOME and changed.quantile("same_error") <= _PRECISION
    if not same_input and changed.share("near_twins", "near") < 2 * _SOME:
        return None
    reasons = [
        f"{same:.1%} of the boxes are the same, {near:.1%} others overlap by more than two proposals of one run do",
        _same_features(changed)
        if same_input
        else f"{changed.share('near_twins', 'near'):.1%} of the moved boxes have equal features",
    ]
    if not same_input and changed.of_comparable("overlapping") >= _MOST:
        return Verdict((REGRESSED, PROPOSALS), (*reasons, "features are those of the moved boxes"))
    if same >= _MOST and near < 2 * _SOME:
        return Verdict((NUMBER, PROPOSALS), tuple(reasons))
    return Verdict((PROPOSALS,), tuple(reasons))


def _other_network(totals: Totals, changed: Totals) -> Verdict | None:
    resemblance = changed.share("resemblance", "overlapping")
    if resemblance >= _RESEMBLANCE:
        return None
    text = f"features of overlapping boxes, less their mean, have a cosine of {resemblance:.2f}; unrelated ones have 0"
    return Verdict((NETWORK,), (text, "pixels on another scale, such as 0 to 1, look the same"))


def _other_pixels(totals: Totals, changed: Totals) -> Verdict:
    """One network, another picture: name the cause where there is proof, else all that fit."""
    error = _error(changed)
    reasons = [f"features at boxes that match differ by {error:.2f} of the spread between boxes"]
    edges, equal = totals.total("edges"), totals.share("equal_edges", "edges")
    if changed.of_comparable("same") >= _ALL:
        reasons.append("the boxes are the same: both networks were given them, or only their heads differ")
    elif edges and equal < _MOST:
        reasons.append(f"boxes end alike at {equal:.1%} of {edges:.0f} edges of images")
        reasons.append(f"A: {totals.one.resizing}; B: {totals.other.resizing}")
        return Verdict((PIXELS,), tuple(reasons))
    else:
        reasons.append(f"boxes end alike at {equal:.1%} of {edges:.0f} edges of images: the same size for the network")
    unchanged, mixed = int(totals.unchanged.sum()), totals.unchanged_by_content
    if unchanged:
        sizes = "others of their size did" if mixed else "none of them has the size of an image that did"
        reasons.append(f"{unchanged} of {len(totals)} images did not change at all, {sizes}")
    if mixed and error >= _SWAP:
        reasons.append("a swap of red and blue leaves pictures without colour as they are")
        return Verdict((SWAPPED,), tuple(reasons))
    coloured, turned = changed.total("coloured"), changed.share("turned", "coloured")
    if coloured >= _COLOURED:
        reasons.append(f"{turned:.1%} of {coloured:.0f} blue, red, orange, yellow or brown regions turned")
        if turned >= _MOST:
            return Verdict((SWAPPED,), tuple(reasons))
    if (error < _SWAP and not mixed) or (coloured >= _COLOURED and turned < 0.2):
        reasons.append("weights that were trained a little further look the same")
        return Verdict((PIXELS,), tuple(reasons))
    reasons.append("the files alone do not tell which; --images and --weights do")
    return Verdict((SWAPPED, PIXELS, f"{NETWORK} trained from the same one"), tuple(reasons))


assert TWIN < _PRECISION
