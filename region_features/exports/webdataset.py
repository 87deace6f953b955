"""WebDatasets: a folder of tars a set, one for each of its shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from region_features.background import in_background
from region_features.exports.base import Copy, Export, OnProgress, ShardImage, Sources, Target
from region_features.formats.example import ImageExample
from region_features.formats.safetensors import decode_record
from region_features.formats.webdataset import (
    JSON,
    Member,
    encode_sample,
    find_members,
    refuse_key,
    sample_key,
    write_tar,
)
from region_features.records.build_note import BuildNote
from region_features.records.json_text import parse_json
from region_features.validation.record import Problem, differing_fields

_RECORDS_AHEAD = 8
_RECORDS_A_REPORT = 64


@dataclass(frozen=True)
class WebDatasetExport(Export):
    """`webdataset/SET/000000.tar` and so on: per image `.json` with its captions, `.safetensors` with its arrays."""

    name = "webdataset"

    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name a folder after its set."""
        for set_name in sets:
            yield Target(set_name, (set_name,), folder=self.name, contents=set_name)

    def refuse_id(self, img_id: str) -> str | None:
        """Refuse what is too long for a tar."""
        return refuse_key(img_id)

    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, int]:
        """Write the tars."""
        records = 0

        def counted(samples: Iterator[dict[str, bytes]]) -> Iterator[dict[str, bytes]]:
            nonlocal records
            for sample in samples:
                yield sample
                records += 1
                if records % _RECORDS_A_REPORT == 0:
                    on_progress("records_written", records)

        for number, shard in enumerate(sources.paths):
            encoded = (encode_sample(example) for _, example in sources.examples([shard]))
            with (
                open(os.path.join(folder, f"{number:06d}.tar"), "wb") as stream,
                closing(in_background(encoded, _RECORDS_AHEAD)) as samples,
            ):
                write_tar(stream, counted(samples))
        on_progress("records_written", records)
        return {"records": records, "tars": len(sources.paths)}

    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Find the files in the tars."""
        return _TarsCopy(os.path.join(folder, target.contents))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Say how many records there are, in how many tars."""
        return f"{row['records']} records in {row['tars']} tars"


class _TarsCopy(Copy):
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._members: dict[str, tuple[str, Member]] = {}
        self._damaged: list[Problem] = []
        for name in sorted(os.listdir(folder)):
            if not name.endswith(".tar"):
                continue
            path = os.path.join(folder, name)
            with open(path, "rb", buffering=0) as stream:
                for member in find_members(stream, path):
                    if member.name in self._members:
                        self._damaged.append(Problem("webdataset", f"{path}: {member.name} comes a second time"))
                    self._members[member.name] = path, member

    def check_example(self, example: ImageExample, shard: str) -> Iterator[Problem]:
        img_id = example.record.img_id
        for name, expected in encode_sample(example).items():
            if name not in self._members:
                yield Problem("webdataset", f"{self._folder}: expected {name} for {img_id} of {shard}, found none")
                continue
            path, member = self._members[name]
            with open(path, "rb", buffering=0) as stream:
                stream.seek(member.offset)
                stored = stream.read(member.size)
            if stored != expected:
                differing = _differing(name, expected, stored)
                yield Problem("webdataset", f"{path}, {name}: not the image {img_id} of {shard}: {differing}")

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        yield from self._damaged
        known = {sample_key(image.img_id) for image in images}
        for name, (path, _) in self._members.items():
            if name.partition(".")[0] not in known:
                yield Problem("webdataset", f"{path}: {name} belongs to no image in the shards")


def _differing(name: str, expected: bytes, stored: bytes) -> str:
    """Say in which fields two files of an image differ."""
    try:
        if name.endswith(f".{JSON}"):
            left, right = parse_json(expected), parse_json(stored)
            names = [field for field in left if field not in right or left[field] != right[field]]
        else:
            names = differing_fields(decode_record(expected, name), decode_record(stored, name))
    except (ValueError, TypeError) as error:
        return f"cannot be read: {error}"
    return f"{', '.join(names) or 'only bytes between the fields'} differ"
