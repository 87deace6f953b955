"""TSVs and hard negatives against the shards that they were made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipeline.exports import boxes_name, negatives_digest, tsv_digest, tsv_name
from beam_pipeline.output_folder import OutputFolder
from beam_pipeline.verify.shards import Finding
from region_features.formats.tsv import RowPlace, decode_tsv_row, encode_tsv_row, find_rows
from region_features.records.coco import TRAIN_SPLITS, is_coco_id
from region_features.records.key import lmdb_key
from region_features.records.region_record import FIELD_NAMES, RegionRecord
from region_features.validation.hard_negatives import check_negatives
from region_features.validation.record import Problem, differing_fields
from transforms import files
from transforms.manifest import Audit
from transforms.negatives import ARRAYS, PICKLE, SOURCE
from transforms.tsv import SOURCE_SUFFIX


@dataclass(frozen=True)
class TsvFile:
    """A local TSV: its path, its set, its columns, and where each image's row lies."""

    path: str
    set_name: str
    columns: int
    rows: Mapping[str, RowPlace]

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        """The image's row is its record."""
        place = self.rows.get(record.img_id)
        if place is None:
            yield Problem("tsv", f"{self.path}: expected a row for {record.img_id} of {shard}, found none")
            return
        with open(self.path, "rb", buffering=0) as stream:
            stream.seek(place.offset)
            line = stream.read(place.length)
        if line == encode_tsv_row(record, self.columns).rstrip(b"\n"):
            return
        where = f"{self.path}, line {place.line}"
        try:
            stored = decode_tsv_row(line, where)
        except ValueError as error:
            yield Problem("tsv", str(error))
            return
        names = [name for name in differing_fields(record, stored) if name in FIELD_NAMES[: self.columns]]
        if names:
            yield Problem("tsv", f"{where}: not the record of {record.img_id} in {shard}: {', '.join(names)} differ")


def open_tsvs(found: OutputFolder, audit: Audit) -> tuple[dict[str, TsvFile], list[Problem]]:
    """The TSVs that stand beside the LMDBs of a local output, by set, and what is wrong without a look at the shards.

    One that was made of other shards than those that are there is named, and not compared.
    """
    tsvs: dict[str, TsvFile] = {}
    problems: list[Problem] = []
    if found.plan is None or files.is_remote(found.paths.output):
        return tsvs, problems
    present = files.list_folder(found.paths.features)
    boxes = boxes_name(found.plan.settings)
    for shards in (shards for sets, _ in audit.lmdbs.values() for shards in sets):
        set_name = next(shard.set_name for shard in found.plan.shards if shard.filename == shards[0])
        name = tsv_name(set_name, boxes)
        path = files.join(found.paths.features, name)
        if name not in present:
            continue
        digest = tsv_digest(audit, shards) if all(shard in audit.shards for shard in shards) else None
        try:
            note = json.loads(files.read_bytes(path + SOURCE_SUFFIX))
            made_of, columns, rows, size = (note[key] for key in ("source_digest", "columns", "rows", "bytes"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(Problem("tsv", f"{path}: {SOURCE_SUFFIX} does not say what it was made of ({error!r})"))
            continue
        if made_of != digest:
            problems.append(Problem("tsv", f"{path}: stale: the shards are no longer those that it was made of"))
            continue
        if size != present[name]:
            problems.append(Problem("tsv", f"{path}: expected {size} bytes ({SOURCE_SUFFIX}), got {present[name]}"))
        places, wrong = _find_rows(path)
        problems.extend(wrong)
        if len(places) + len(wrong) != rows:
            problems.append(Problem("tsv", f"{path}: expected {rows} rows ({SOURCE_SUFFIX}), got {len(places)}"))
        tsvs[set_name] = TsvFile(path, set_name, columns, places)
    return tsvs, problems


def _find_rows(path: str) -> tuple[dict[str, RowPlace], list[Problem]]:
    rows: dict[str, RowPlace] = {}
    problems = []
    with open(path, "rb") as stream:
        for place in find_rows(stream, path):
            if isinstance(place, ValueError):
                problems.append(Problem("tsv", str(place)))
            elif place.img_id in rows:
                problems.append(Problem("tsv", f"{path}, line {place.line}: image {place.img_id} comes a second time"))
            else:
                rows[place.img_id] = place
    return rows, problems


def check_tsv_ids(tsv: TsvFile, findings: Sequence[Finding]) -> Iterator[Problem]:
    """The TSV has no row but those of its set's images."""
    known = {img_id for finding in findings if finding.set_name == tsv.set_name for img_id in finding.ids}
    whole = all(finding.whole for finding in findings if finding.set_name == tsv.set_name)
    strange = [img_id for img_id in tsv.rows if img_id not in known]
    if strange and whole:
        yield Problem("tsv", f"{tsv.path}: {len(strange)} rows are of no image in the shards, {strange[0]} for one")


def check_hard_negatives(found: OutputFolder, audit: Audit, findings: Sequence[Finding]) -> Iterator[Problem]:
    """The hard negatives are whole, of these shards, and of their training images."""
    output = found.paths.output
    present = files.list_folder(output)
    if SOURCE not in present:
        if {PICKLE, ARRAYS} & present.keys():
            yield Problem("negatives", f"{output}: {SOURCE} is not there to say what {PICKLE} and {ARRAYS} are made of")
        return
    try:
        note: Any = json.loads(files.read_bytes(files.join(output, SOURCE)))
        made_of = note["made_of"]["source_digest"]
        data = {name: files.read_bytes(files.join(output, name)) for name in (PICKLE, ARRAYS)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Problem("negatives", f"{output}: the hard negatives cannot be read: {error!r}")
        return
    if made_of != negatives_digest(audit):
        yield Problem("negatives", f"{PICKLE}: stale: the shards are no longer those that it was made of")
        return
    if not all(finding.whole for finding in findings):
        return
    images = [image for finding in findings for image in finding.captioned if image.split in TRAIN_SPLITS]
    coco = all(is_coco_id(image.img_id) for image in images)
    ids = [int(lmdb_key(image.img_id)) for image in images] if coco else None
    yield from check_negatives(data[ARRAYS], data[PICKLE], len(images), ids)
