"""What a report counts, samples and compares, against plain computations over all records."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from region_features.exports.base import ShardImage, Sources
from region_features.exports.report import ReportExport
from region_features.images.thumbnail import make_thumbnail
from region_features.names import visual_genome
from region_features.records.build_note import BuildNote
from region_features.records.failure import ImageFailure
from region_features.report.duplicates import NearDuplicates
from region_features.report.extremes import Extremes
from region_features.report.histogram import logarithmic, shares, whole_numbers
from region_features.report.totals import Totals
from tests.samples.records import make_example, make_record
from tests.samples.reports import ATTACK, build_page, example_of, photo, write_run


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_page(sources, tmp_path_factory.mktemp("page"))


def embedded(page: str) -> list[dict[str, Any]]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(data)["images"]


def test_extremes_are_those_of_a_sort() -> None:
    scores = np.random.default_rng(0).integers(0, 30, 200).tolist()
    made: list[int] = []
    extremes: Extremes[int] = Extremes(7)
    for number, score in enumerate(scores):
        extremes.offer(score, lambda number=number: made.append(number) or number)  # type: ignore[misc, func-returns-value]
    expected = sorted(range(200), key=lambda number: (-scores[number], number))[:7]
    assert [(scores[number], number) for number in expected] == extremes.best()
    assert len(made) < 60


def test_histograms_count_what_lies_outside_in_their_last_bins() -> None:
    numbers = whole_numbers(3)
    numbers.add([0, 1, 1, 3, 9])
    assert numbers.counts.tolist() == [1, 2, 0, 2] and numbers.median == 1
    parts = shares(4)
    parts.add([[-1.0, 0.25], [0.5, 1.0]])
    assert parts.counts.tolist() == [1, 1, 1, 1]
    ratios = logarithmic(-1, 1, 1)
    ratios.add([0.0, 0.5, 5.0, np.inf])
    assert ratios.counts.tolist() == [2, 2]
    edges, counts = whole_numbers(5).occupied()
    assert edges.tolist() == [-0.5, 0.5] and counts.tolist() == [0]


@pytest.mark.parametrize("max_images", [1 << 17, 5000])
def test_near_duplicates_are_found_among_many(max_images: int) -> None:
    rng = np.random.default_rng(0)
    means = rng.random((6000, 64), np.float32)
    means[5000] = 3 * means[17]  # of another length, in the same direction
    means[4001] = means[4000] + np.float32(1e-4)
    near = NearDuplicates(max_images)
    for number, mean in enumerate(means):
        near.add(number, 0 if number in (17, 5000, 4000, 4001) else number, mean)
    first, second, third = near.nearest(3)
    assert {(first.first, first.second), (second.first, second.second)} == {(17, 5000), (4000, 4001)}
    assert min(first.cosine, second.cosine) > 0.9999 > third.cosine


def test_images_without_features_or_of_another_width_are_not_compared() -> None:
    near = NearDuplicates()
    for number, width in enumerate((4, 4, 8)):
        near.add(number, number, np.ones(width, np.float32))
    near.add(3, 3, np.zeros(4, np.float32))
    assert [(pair.first, pair.second) for pair in near.nearest(4)] == [(0, 1)]
    assert NearDuplicates().nearest(4) == []


def test_totals_are_those_of_all_records_together() -> None:
    totals = Totals({"conf_threshold": 0.5}, visual_genome())
    records = [make_record(f"a_{number}", boxes=number % 4, seed=number) for number in range(40)]
    for record in records:
        totals.add("a", make_example(record, ("one two three",)), "shard")
    assert (totals.images, totals.boxes, totals.without_boxes) == (40, 60, 10)
    confidences = np.concatenate([record.objects_conf for record in records])
    assert totals.confidences.counts.tolist() == np.histogram(confidences, 50, (0, 1))[0].tolist()
    over = [int((record.objects_conf >= 0.5).sum()) for record in records]
    assert totals.confident_boxes.counts[:4].tolist() == np.bincount(over, minlength=4).tolist()
    norms = np.concatenate([np.linalg.norm(record.features, axis=1) for record in records])
    assert totals.norms.counts.tolist() == np.histogram(norms, totals.norms.edges)[0].tolist()
    assert totals.caption_words.counts[3] == 40 and totals.splits == {"a": {"val": 40}}
    assert sum(totals.objects.values()) == 60 and totals.names is None  # seven classes are not Visual Genome's
    groups = {group.title: [view.img_id for _, view in group.images] for group in totals.odd_groups()}
    filled = [record for record in records if record.num_boxes]
    by_confidence = sorted(filled, key=lambda record: float(record.objects_conf.mean()))
    assert groups["Least confident"] == [record.img_id for record in by_confidence[:4]]
    assert groups["Most confident"] == [record.img_id for record in by_confidence[:-5:-1]]


def test_the_sample_does_not_depend_on_the_order() -> None:
    forth, back = (Totals({}, None) for _ in range(2))
    examples = [example_of(number) for number in range(60)]
    for example in examples:
        forth.add("a", example, "shard")
    for example in reversed(examples):
        back.add("a", example, "shard")
    ids = [view.img_id for view in forth.sample()]
    assert ids == [view.img_id for view in back.sample()] and len(set(ids)) == 24
    assert ids != [example.record.img_id for example in examples[:24]]


def test_the_page_tells_counts_reasons_rate_and_settings(page: str) -> None:
    text = html.unescape(re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)))
    for expected in (
        "Region features of 32 images",
        "4 × decode: the file is empty (0 bytes)",
        "4 × decode: damaged",
        "2 damaged rows of the captions file",
        "mean 0.04 images/s",
        "health",
        "conf_threshold 0.5",
        "cd" * 32,
        "train 11, val 11",
        "no picture: No such file or directory",
        "cosine of the mean features 1.0000",
    ):
        assert expected.lower() in text.lower(), expected


def test_what_comes_from_a_run_is_escaped(page: str) -> None:
    assert ATTACK not in page and html.escape(ATTACK, quote=True).replace("&#x27;", "&#39;") in page
    assert page.count("<script") == page.count("</script>") == 2
    assert any(ATTACK in row[5] for image in embedded(page) for row in image["boxes"])


def test_the_page_asks_for_nothing_outside_itself(page: str) -> None:
    addresses = re.findall(r'(?:src|href|xlink:href)="([^"]*)"|url\(([^)]*)\)', page)
    assert {re.split("[,#]", "".join(found))[0] for found in addresses} <= {"", "data:image/jpeg;base64", "data:"}
    assert "default-src 'none'" in page


def test_the_same_shards_give_the_same_page(sources: Sources, page: str, tmp_path: Path) -> None:
    assert build_page(sources, tmp_path / "again") == page


def test_a_report_of_shards_alone_has_no_pictures(tmp_path: Path) -> None:
    sources = write_run(tmp_path, shards=1)
    page = build_page(Sources("out", sources.shards, 0, sources.read_shard, sources.read_ids), tmp_path / "page")
    assert "no picture: the plan does not say where it lies" in page and "data:image" not in page


def test_a_report_of_no_images_is_a_page(tmp_path: Path) -> None:
    sources = write_run(tmp_path, shards=0)
    assert "Region features of 0 images" in build_page(sources, tmp_path / "page")


def problems(page: str, sources: Sources, folder: Path, images: int = 32) -> Iterator[str]:
    (folder / "index.html").write_text(page, encoding="utf-8")
    note = BuildNote("d", {}, {}, {"images": images}, {})
    (target,) = ReportExport().targets(["photos"], {})
    copy = ReportExport().open(target, str(folder), note)
    shown = []
    for path, example in sources.examples(sources.paths):
        shown.append(ShardImage(path, example.record.img_id, example.split))
        yield from (problem.message for problem in copy.check_example(example, path))
    yield from (problem.message for problem in copy.check_rest(shown, whole=True))


def test_verify_compares_the_boxes_with_the_records(sources: Sources, page: str, tmp_path: Path) -> None:
    assert list(problems(page, sources, tmp_path)) == []
    box = json.dumps(embedded(page)[0]["boxes"][0][:4])
    assert box[1:-1] in page
    (message,) = problems(page.replace(box[1:-1], "1.0, 2.0, 3.0, 4.0"), sources, tmp_path)
    assert "not the boxes of its record in" in message
    (message,) = problems(page.replace('"id": "photo_4"', '"id": "stranger"'), sources, tmp_path)
    assert message.endswith("that are not in the shards, stranger for one")
    (message,) = problems(page, sources, tmp_path, images=31)
    assert message.endswith("expected 32 images (the shards), got 31 (its note)")
    with pytest.raises(ValueError, match="expected the data of a report"):
        list(problems("<html>", sources, tmp_path))


def test_a_thumbnail_fits_its_square_and_keeps_small_images() -> None:
    for side, expected in ((160, (160, 120)), (1000, (640, 480))):
        with Image.open(io.BytesIO(make_thumbnail(photo(1), side, 10**6))) as image:
            assert (image.format, image.size) == ("JPEG", expected)
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)).save(noise, "PNG")
    assert len(make_thumbnail(noise.getvalue(), 640, 10**6)) <= 640 * 640 / 3
    with pytest.raises(ImageFailure, match="more than 1000 pixels"):
        make_thumbnail(photo(1), 160, 1000)
    with pytest.raises(ImageFailure, match="no image that can be read"):
        make_thumbnail(b"text", 160, 1000)
