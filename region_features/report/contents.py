"""What stands in each part of the page."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from region_features.health.verdict import health_rows
from region_features.report.charts import count_chart, rate_chart, ratio_chart, share_chart
from region_features.report.page import Shown, render_page
from region_features.report.pictures import FAILURE_SIDE, Picture, PictureReader, box_rows
from region_features.report.run_account import Rate, RunAccount
from region_features.report.run_files import RunFiles
from region_features.report.totals import Totals
from region_features.report.view import ImageView

_NAMES_SHOWN, _SHARDS_SHOWN = 25, 1000
# Parts of the manifest that become tables, and their headings.
_TABLES = (
    ("Settings", "settings"),
    ("Versions", "versions"),
    ("Inputs", "inputs"),
    ("Weights", "weights"),
    ("Captions", "captions"),
    ("Given boxes", "boxes"),
)
_DAMAGED = (("captions", "captions file"), ("boxes", "boxes file"), ("import", "imported files"))


class Chart(NamedTuple):
    """A chart with its heading and what stands beside that; or why there is none."""

    title: str
    note: str
    svg: Markup | None
    missing: str = ""


class PairOfViews(NamedTuple):
    """Two images that are alike, and how alike."""

    first: ImageView
    second: ImageView
    note: str


def compose_page(
    totals: Totals,
    account: RunAccount,
    run: RunFiles | None,
    described: Mapping[str, Any],
    pairs: Sequence[PairOfViews],
) -> str:
    """Return the page.

    Args:
        totals: of all records.
        account: of all stats; empty where there are none.
        run: how to read images; None leaves them out.
        described: what the manifest says of the run's input, see RunFiles.
        pairs: images whose features are nearly the same.
    """
    settings = described.get("settings", {})
    names = totals.names
    reader = PictureReader(run, settings)
    shown: list[Shown] = []
    pictures: dict[tuple[str, str], tuple[Picture, list[list[Any]]]] = {}

    def show(view: ImageView, note: str = "") -> int:
        key = view.shard, view.img_id
        if key not in pictures:
            pictures[key] = reader.of_view(view), box_rows(view, names)
        shown.append(Shown(view, *pictures[key], note))
        return len(shown) - 1

    sampled = [show(view) for view in totals.sample()]
    odd = [
        {"title": group.title, "images": [show(view, note) for note, view in group.images]}
        for group in totals.odd_groups()
    ]
    if pairs:
        twins = [show(view, pair.note) for pair in pairs for view in (pair.first, pair.second)]
        odd.append({"title": "Nearly the same features, pair by pair", "images": twins})
    other_network = "detector_config_sha256" in settings
    health = account.describe_health(settings)
    reasons = account.reasons()
    content = {
        "title": f"Region features of {totals.images:,} images",
        "reason": described.get("reason"),
        "cards": _cards(totals, account),
        "sets": list(_sets(totals, account)),
        "health_images": health["sampled_images"] if health else 0,
        "health_rows": list(health_rows(health, other_network)) if health else [],
        "warnings": health["warnings"] if health else [],
        "other_network": other_network,
        "failures": [
            {
                **reason._asdict(),
                "examples": [(failure, reader.read(failure.uri, FAILURE_SIDE)) for failure in reason.examples],
            }
            for reason in reasons
        ],
        "other_reasons": account.num_reasons - len(reasons),
        "damaged_rows": [
            f"{described[part]['failed_rows']:,} damaged rows of the {what}, in failures.jsonl."
            for part, what in _DAMAGED
            if described.get(part, {}).get("failed_rows")
        ],
        "charts": list(_charts(totals, account.rate())),
        "objects": _bars(totals.objects, names.objects if names else (), "object"),
        "num_objects": len(totals.objects),
        "attributes": _bars(totals.attributes, names.attributes if names else (), "attribute"),
        "num_attributes": len(totals.attributes),
        "sampled": sampled,
        "odd": [group for group in odd if group["images"]],
        "tables": [(heading, _facts(described[part])) for heading, part in _TABLES if described.get(part)],
        "shards": account.shards[:_SHARDS_SHOWN],
        "other_shards": len(account.shards[_SHARDS_SHOWN:]),
    }
    return render_page(content, shown)


def _cards(totals: Totals, account: RunAccount) -> Iterator[tuple[str, str, bool]]:
    """Yield label, value, and whether it is bad news."""
    counts = account.counts
    yield "images written", f"{totals.images:,}", False
    yield "images failed", f"{counts['failed']:,}", counts["failed"] > 0
    yield "boxes", f"{totals.boxes:,}", False
    yield "boxes an image", f"{totals.boxes / totals.images:.1f}" if totals.images else "none", False
    yield "without boxes", f"{totals.without_boxes:,}", False
    yield "shards", f"{counts['shards']:,}", False
    yield "shards, in MB", f"{sum(shard.num_bytes for shard in account.shards) / 1e6:,.1f}", False


def _sets(totals: Totals, account: RunAccount) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys((*account.sets, *totals.splits)):
        counts, splits = account.sets.get(name, Counter()), totals.splits.get(name, Counter())
        parts = [f"{split or 'no captions'} {count:,}" for split, count in sorted(splits.items())]
        yield {
            "name": name,
            **{key: counts[key] for key in ("written", "failed", "reused", "shards")},
            "splits": ", ".join(parts),
        }


def _charts(totals: Totals, rate: Rate | None) -> Iterator[Chart]:
    if rate is None:
        yield Chart("Rate over time", "", None, "Too few shards were written after one another to tell.")
    else:
        seconds = rate.edges[-1]
        unit, size = next((unit, size) for unit, size in _UNITS if seconds >= 2 * size or size == 1)
        began = time.strftime("%Y-%m-%d %H:%M", time.gmtime(rate.began))
        svg = rate_chart(rate.edges / size, rate.images_a_second, f"{unit} after {began} UTC")
        images = float((rate.images_a_second * (rate.edges[1:] - rate.edges[:-1])).sum())
        yield Chart("Rate over time", f"mean {images / seconds:,.2f} images/s, by the times of the shards", Markup(svg))
    over = f"boxes of an image with a confidence of {totals.threshold:g} or more"
    for title, noun, histogram, draw, label in (
        ("Boxes over the threshold", "images", totals.confident_boxes, count_chart, over),
        ("Confidences", "boxes", totals.confidences, share_chart, "confidence of the object"),
        ("Box areas", "boxes", totals.areas, ratio_chart, "share of the image"),
        ("Feature norms", "boxes", totals.norms, ratio_chart, "norm of a box's feature"),
        ("Share of zeros", "images", totals.zeros, share_chart, "zeros among an image's features"),
        ("Caption lengths", "captions", totals.caption_words, count_chart, "words of a caption"),
    ):
        if histogram.total:
            note = f"{histogram.total:,} {noun}, median {histogram.median:.3g}"
            yield Chart(title, note, Markup(draw(histogram, label)))
        else:
            yield Chart(title, "", None, "There are none.")


_UNITS = (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1))


def _bars(counts: Counter[int], names: Sequence[Sequence[str]], noun: str) -> list[tuple[str, int, float]]:
    """Return name, count, and length of the bar from 0 to 1, the commonest first."""
    rows = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:_NAMES_SHOWN]
    most = rows[0][1] if rows else 1
    return [
        (names[number][0] if number < len(names) else f"{noun} {number}", count, count / most) for number, count in rows
    ]


def _facts(part: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in sorted(part.items())]
