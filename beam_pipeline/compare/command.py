"""`python -m beam_pipeline.compare A B`: do two files of features come from one network, and if not, what differs?"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from beam_pipeline.compare.picture_trials import try_pictures
from beam_pipeline.flags.types import address, path
from beam_pipeline.progress.run_progress import IMAGES, show_count
from beam_pipeline.progress.summary import counted
from beam_pipeline.usage import Parser, UsageError, one_line
from region_features.comparison.totals import Totals
from region_features.comparison.verdict import SAME_NETWORK, Verdict, judge
from region_features.records.region_record import RegionRecord
from region_features.sources.records import Records, in_one_frame, open_records
from transforms import files

SAMPLE = 1000
_THREADS = min(8, 2 * (os.cpu_count() or 1))
_AHEAD = 32  # pairs of records in memory
_EXAMPLES = 3


@dataclass(frozen=True)
class Comparison:
    """What was compared, and the verdict.

    Attributes:
        paths: of A and B, as given.
        sides: A and B.
        only: keys of the images that A or B alone has.
        common: images that both have.
        totals: of the compared ones.
        unreadable: problems of compared images that could not be read.
        verdict: what made them differ.
    """

    paths: tuple[str, str]
    sides: tuple[Records, Records]
    only: tuple[Sequence[str], Sequence[str]]
    common: int
    totals: Totals
    unreadable: Sequence[str]
    verdict: Verdict


def compare(
    path: str, other_path: str, sample: int = SAMPLE, images: Sequence[str] = (), weights: str = ""
) -> Comparison:
    """Compare the records of two files or folders.

    Args:
        path: A, as `open_records` takes it.
        other_path: B.
        sample: how many images to compare, evenly spread over the keys; 0 for all.
        images: where some of the images are, to try how they were prepared; needs `weights`.
        weights: of the network that may have made A or B.

    Raises:
        ValueError: one cannot be read, or they have no image in common.
        OSError: one is not there or cannot be read.
    """
    one, other = open_records(path), open_records(other_path)
    keys, other_keys = set(one.keys), set(other.keys)
    common = sorted(keys & other_keys)
    if not common:
        examples = " and ".join(repr(side.keys[0]) if side.keys else "none" for side in (one, other))
        raise ValueError(
            f"{path} and {other_path}: expected images that both have, found none; their LMDB keys are {examples}, "
            "for example; were they made of the same images?"
        )
    chosen = common if not sample else [common[place * len(common) // sample] for place in range(sample)]
    chosen = list(dict.fromkeys(chosen))
    totals, unreadable = Totals(), []
    for pair in _read_pairs(one, other, chosen):
        try:
            if isinstance(pair, str):
                raise ValueError(pair)
            totals.add(*pair)
        except ValueError as error:
            unreadable.append(str(error))
    if not len(totals):
        raise ValueError(f"{path} and {other_path}: no image could be read; the first: {unreadable[0]}")
    only = sorted(keys - other_keys), sorted(other_keys - keys)
    verdict = judge(totals)
    if images:
        from region_features.comparison.trials import settle

        verdict = settle(verdict, *try_pictures(one, other, common, images, weights))
    return Comparison((path, other_path), (one, other), only, len(common), totals, unreadable, verdict)


def _read_pairs(one: Records, other: Records, keys: Sequence[str]) -> Iterator[tuple[RegionRecord, RegionRecord] | str]:
    """Yield the two records of each image, or the reason why one cannot be read."""

    def read(key: str) -> tuple[RegionRecord, RegionRecord] | str:
        try:
            return in_one_frame(one.read(key), other.read(key))
        except (ValueError, OSError) as error:
            return one_line(error)

    with ThreadPoolExecutor(_THREADS) as pool:
        parts = (pool.map(read, keys[start : start + _AHEAD]) for start in range(0, len(keys), _AHEAD))
        yield from show_count(itertools.chain.from_iterable(parts), "comparing", IMAGES, len(keys))


def report(comparison: Comparison) -> dict[str, Any]:
    """Return everything that was measured, as --json writes it; shares are from 0 to 1, None where nothing is known."""
    totals = comparison.totals
    same_order = float(totals.column("in_order").mean())
    measures = {
        "images_compared": len(totals),
        "images_unreadable": len(comparison.unreadable),
        "images_of_other_size": int(totals.total("other_size")),
        "images_with_same_boxes_in_same_order": same_order,
        "boxes_same": totals.of_comparable("same"),
        "boxes_near": totals.of_comparable("near"),
        "boxes_overlapping": totals.of_comparable("overlapping"),
        "near_boxes_shift_pixels": totals.quantile("shift"),
        "rows_with_equal_features": totals.of_comparable("twins"),
        "feature_cosine_median": totals.quantile("cosine"),
        "feature_cosine_lowest": totals.quantile("lowest_cosine", 0.0),
        "feature_difference_largest": totals.quantile("difference", 1.0),
        "feature_error_same_boxes": totals.quantile("same_error"),
        "feature_error_near_boxes": totals.quantile("near_error"),
        "objects_equal": _known_share(totals, "equal_objects", "object_pairs"),
        "attributes_equal": _known_share(totals, "equal_attributes", "attribute_pairs"),
        "image_edges_equal": totals.share("equal_edges", "edges"),
    }
    sides = {}
    counts = totals.column("boxes"), totals.column("other_boxes")
    for index, (name, side) in enumerate(zip("AB", (totals.one, totals.other), strict=True)):
        records, only = comparison.sides[index], comparison.only[index]
        sides[name] = {
            "path": comparison.paths[index],
            "kind": records.kind,
            "images": len(records.keys),
            "left_out": records.left_out,
            "only_here": len(only),
            "only_here_examples": list(only[:_EXAMPLES]),
            "boxes": [int(counts[index].min()), int(counts[index].max())],
            "boxes_mean": float(counts[index].mean()),
            "feature_widths": sorted(side.widths),
            "resizing": side.resizing,
        }
    verdict = {"text": comparison.verdict.text, **vars(comparison.verdict)}
    known = {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in measures.items()
    }
    return {"verdict": verdict, **sides, "images_in_both": comparison.common, "measures": known}


def _known_share(totals: Totals, part: str, whole: str) -> float | None:
    """Return a share, None where one of the two sides has no such ids."""
    return totals.share(part, whole) if totals.total(whole) else None


def table(comparison: Comparison) -> Iterator[str]:
    """Describe a comparison, a line at a time."""
    found = report(comparison)
    measures, sides = found["measures"], [found[name] for name in "AB"]
    for name, side in zip("AB", sides, strict=True):
        yield f"{name}: {side['path']} ({side['kind']})"
        low, high = side["boxes"]
        boxes = f"{low}" if low == high else f"{low} to {high} (mean {side['boxes_mean']:.1f})"
        widths = ", ".join(map(str, side["feature_widths"]))
        yield f"   {side['images']} images, {boxes} boxes an image, features of width {widths}"
        yield f"   {side['resizing']}"
        if side["only_here"]:
            yield f"   only here: {counted(side['only_here'], 'image')}, LMDB keys {_some(side['only_here_examples'])}"
        if side["left_out"]:
            yield f"   left out: {side['left_out']} that share a key with another image, or are damaged"
    yield f"compared: {measures['images_compared']} of the {found['images_in_both']} images that both have"
    if comparison.unreadable:
        yield f"unreadable: {len(comparison.unreadable)}, the first: {comparison.unreadable[0]}"
    if measures["images_of_other_size"]:
        yield f"of other size in A and B: {counted(measures['images_of_other_size'], 'image')}; turned?"
    rows = {
        "same boxes, same order": (f"{measures['images_with_same_boxes_in_same_order']:.1%}", "of the images"),
        "same boxes": (f"{measures['boxes_same']:.1%}", "of those that both could have"),
        "near boxes": (f"{measures['boxes_near']:.1%}", "others, IoU of at least 0.75"),
        "rows with equal features": (f"{measures['rows_with_equal_features']:.1%}", ""),
        "feature cosine": (_number(measures["feature_cosine_median"]), _lowest(measures["feature_cosine_lowest"])),
        "largest difference": (_number(measures["feature_difference_largest"]), "of a feature, at the same boxes"),
        "objects equal": (_share(measures["objects_equal"]), "at the same boxes, or else at near ones"),
        "attributes equal": (_share(measures["attributes_equal"]), ""),
        "image edges equal": (f"{measures['image_edges_equal']:.1%}", "where boxes of both touch one"),
    }
    for row, (value, note) in rows.items():
        yield f"  {row:<26}{value:>10}  {note}".rstrip()
    yield f"verdict: {comparison.verdict.text}"
    yield from (f"  {reason}" for reason in comparison.verdict.reasons)


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _lowest(value: float | None) -> str:
    return "median of the images" + ("" if value is None else f"; lowest {value:.6g}")


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        Exit status: 0 the same network, 1 another or not surely the same, 2 wrong use or files that cannot be read.
    """
    parser = Parser(
        prog="python -m beam_pipeline.compare",
        description="Compare two files of region features and say what made them differ. Each is the output folder of "
        "a run, or files, a folder or a glob of any format that --import of a run reads, on a local disk. Exit status: "
        "0 the same network (also in another precision), 1 something else, 2 wrong use.",
    )
    parser.add_argument("one", metavar="A", type=path, help="features")
    parser.add_argument("other", metavar="B", type=path, help="features of the same images")
    parser.add_argument(
        "--sample",
        type=int,
        default=SAMPLE,
        metavar="N",
        help="compare N images, evenly spread over those that both have; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="PATTERN", help="some of the images: try how they were prepared"
    )
    parser.add_argument("--weights", metavar="FILE", type=address, help="the network to try it with")
    parser.add_argument(
        "--json", metavar="FILE", help="write the numbers to FILE, too; -: to the output, for the table"
    )
    try:
        args = parser.parse_args(argv)
        if args.sample < 0:
            raise UsageError(f"--sample {args.sample}: expected a number from 0")
        if bool(args.images) != bool(args.weights):
            raise UsageError("--images and --weights: expected both or none; the images are tried with the network")
        comparison = compare(args.one, args.other, args.sample, args.images, args.weights or "")
        text = json.dumps(report(comparison), indent=2) + "\n"
        if args.json and args.json != "-":
            files.publish_bytes(args.json, [text.encode()])
    except (ImportError, ValueError, OSError) as error:
        print(f"compare: {one_line(error)}", file=sys.stderr)
        return 2
    if args.json == "-":
        print(text, end="")
    else:
        print("\n".join(table(comparison)))
    return 0 if comparison.verdict.causes[0] in SAME_NETWORK else 1
