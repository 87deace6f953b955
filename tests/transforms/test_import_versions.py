"""A file of features that is replaced after the listing stops the run, before a record of it is published."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from region_features.exports.base import Export
from region_features.planning.catalog import Catalog
from region_features.records.item import CaptionedImage
from region_features.sources.base import Source
from tests.samples.imports import write_export
from tests.samples.plans import assign_shards
from tests.samples.records import make_record
from tests.transforms.test_round_trips import FORMATS
from transforms.imports import list_imports, read_imported_shard

EXPORTS: dict[str, Export] = {name: export for name, (export, *_) in FORMATS.items()}


@pytest.mark.parametrize(
    "name", ["tsv", "lmdb-volta", "parquet", "openvqa", "imagecaptioning", "imagecaptioning-files"]
)
@pytest.mark.parametrize("opened_before", [False, True])
def test_a_file_that_is_replaced_after_the_listing_stops_the_run(
    name: str, opened_before: bool, tmp_path: Path
) -> None:
    records = [make_record(f"COCO_val2014_{number:012d}", 3) for number in (1, 2)]
    old = write_export(tmp_path / "old", EXPORTS[name], records)
    (tmp_path / "new").mkdir()
    new = write_export(
        tmp_path / "new" / "old", EXPORTS[name], [make_record(record.img_id, 3, 9) for record in records]
    )
    catalog = Catalog()
    list_imports([str(old)], catalog)
    ((shard, refs),) = assign_shards(tuple(catalog.refs()), 1).items()
    images = [CaptionedImage(ref, None) for ref in refs]
    opened: dict[str, Source] = {}
    assert len(list(read_imported_shard(shard, images, opened))) == 2
    boxes = [path for path in new.rglob("*") if "_box" in str(path)]
    for path in boxes or new.rglob("*"):
        if path.is_file():
            target = old / path.relative_to(new)
            target.unlink()
            shutil.copy(path, target)
            os.utime(target, (1, 1))
    taken: list[object] = []
    with pytest.raises(OSError, match=r"old.*: expected the file that was listed before the start, got another or non"):
        taken += read_imported_shard(shard, images, opened if opened_before else {})
    assert len(taken) < 2
