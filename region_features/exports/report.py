"""The report: one page on a run, with statistics, failures, pictures with their boxes, and what stands out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from region_features.background import in_background
from region_features.exports.base import Copy, Export, OnProgress, ShardImage, Sources, Target, require_fields
from region_features.formats.example import ImageExample
from region_features.records.build_note import BuildNote
from region_features.records.json_text import parse_json
from region_features.records.region_record import RegionRecord
from region_features.report.pictures import box_rows
from region_features.report.run_account import RunAccount, names_of_run
from region_features.report.totals import Totals
from region_features.report.view import view_of
from region_features.validation.record import Problem

PAGE = "index.html"
_IMAGES_A_REPORT = 64
_RECORDS_AHEAD = 16
_DATA_BEGINS, _DATA_ENDS = '<script type="application/json" id="data">', "</script>"


@dataclass(frozen=True)
class ReportExport(Export):
    """`report/index.html`, which needs nothing beside it; see `region_features.report`."""

    name = "report"
    modules = ("jinja2", "matplotlib", "PIL")
    needs = ("objects_id", "objects_conf", "attrs_id", "attrs_conf")
    of_failed_runs = True

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name the one page."""
        yield Target(self.name, tuple(sets), (PAGE,), self.name)

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, Any]:
        """Read the shards once, and again those few that hold the pairs of images that are most alike."""
        from region_features.report.contents import PairOfViews, compose_page

        account = RunAccount()
        described = sources.run.describe() if sources.run else {}
        totals = Totals(described.get("settings", {}), names_of_run(described))
        begins: list[tuple[int, str]] = []  # number of a shard's first image
        for set_name, paths in sources.shards.items():
            for path in paths:
                begins.append((totals.images, path))
                if sources.run:
                    account.add(set_name, sources.run.read_stats(path), sources.run.published_at(path))
                for _, example in in_background(sources.examples([path]), _RECORDS_AHEAD):
                    require_fields(example.record, self.needs, path, self.name)
                    totals.add(set_name, example, path)
                    if totals.images % _IMAGES_A_REPORT == 0:
                        on_progress("images_read", totals.images)
        on_progress("images_read", totals.images)
        pairs = totals.odd_pairs()
        numbers = sorted({number for pair in pairs for number in (pair.first, pair.second)})
        views = {number: view_of(example, path) for number, path, example in _read_again(sources, begins, numbers)}
        twins = [PairOfViews(views[pair.first], views[pair.second], pair.note) for pair in pairs]
        page = compose_page(totals, account, sources.run, described, twins)
        with open(os.path.join(folder, PAGE), "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(page)
        return {"images": totals.images, "boxes": totals.boxes, "failed": account.counts["failed"]}

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Read the boxes in the page."""
        return _PageCopy(os.path.join(folder, PAGE), note)

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many images it tells of."""
        return f"a page on {row['images']} images and {row['failed']} failures"


def _read_again(
    sources: Sources, begins: list[tuple[int, str]], numbers: Iterable[int]
) -> Iterator[tuple[int, str, ImageExample]]:
    """Yield some images by their ascending numbers, each with its shard; a shard is read up to the last of its own."""
    wanted = sorted(numbers)
    for position, (begin, path) in enumerate(begins):
        end = begins[position + 1][0] if position + 1 < len(begins) else None
        own = [number - begin for number in wanted if number >= begin and (end is None or number < end)]
        if not own:
            continue
        for place, (_, example) in enumerate(sources.examples([path])):
            if place in own:
                yield begin + place, path, example
            if place == own[-1]:
                break


class _PageCopy(Copy):
    """The boxes of the pictures in a page, compared with those of the records."""

    def __init__(self, path: str, note: BuildNote) -> None:
        self._path, self._expected_images = path, note.counts.get("images")
        with open(path, encoding="utf-8") as stream:
            page = stream.read()
        begin = page.find(_DATA_BEGINS)
        end = page.find(_DATA_ENDS, begin)
        try:
            if begin < 0:
                raise ValueError("no such element")
            images = parse_json(page[begin + len(_DATA_BEGINS) : end])["images"]
            self._images = {(image["shard"], image["id"]): image for image in images}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: expected the data of a report, got something else ({error})") from error

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        image = self._images.get((os.path.basename(shard), record.img_id))
        if image is None:
            return
        boxes = [row[:5] for row in image["boxes"]]
        expected = [row[:5] for row in box_rows(view_of(ImageExample(record, "", ""), shard), None)]
        if [image["width"], image["height"], boxes] != [record.img_w, record.img_h, expected]:
            yield Problem("report", f"{self._path}, image {record.img_id}: not the boxes of its record in {shard}")

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        known = {(os.path.basename(image.shard), image.img_id) for image in images}
        strangers = [img_id for shard, img_id in self._images if (shard, img_id) not in known]
        if strangers and whole:
            message = f"shows {len(strangers)} images that are not in the shards, {strangers[0]} for one"
            yield Problem("report", f"{self._path}: {message}")
        if whole and self._expected_images is not None and len(images) != self._expected_images:
            message = f"expected {len(images)} images (the shards), got {self._expected_images} (its note)"
            yield Problem("report", f"{self._path}: {message}")
