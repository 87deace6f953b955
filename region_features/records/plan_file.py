"""plan.jsonl: the settings, then a line an image in shard and LMDB key order; read shard by shard, in flat memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, BinaryIO

from region_features.records.json_text import parse_json
from region_features.records.plan import ImageRef, Plan, ShardKey

_CHUNK = 1 << 20
_ROW_TYPES = {
    "set": str,
    "shard": int,
    "of": int,
    "img_id": str,
    "uri": str,
    "size": int,
    "version": str,
    "captions": str,
    "boxes": str,
}


class PlanFile(Mapping[ShardKey, tuple[ImageRef, ...]]):
    """The shards of a plan, whose images are read when they are asked for.

    Args:
        stream: the plan's file; stays open.
        places: offset and length in bytes of each shard's rows.
    """

    def __init__(self, stream: BinaryIO, places: Mapping[ShardKey, tuple[int, int]]) -> None:
        self._stream, self._places = stream, places

    def __getitem__(self, key: ShardKey) -> tuple[ImageRef, ...]:
        offset, length = self._places[key]
        self._stream.seek(offset)
        rows = map(parse_json, self._stream.read(length).splitlines())
        return tuple(_image_ref(row) for row in rows)  # their types were checked when the file was opened

    def chunks(self) -> Iterator[bytes]:
        """Yield the content of the file."""
        offset = 0
        while True:
            self._stream.seek(offset)  # images may be asked for between two chunks
            chunk = self._stream.read(_CHUNK)
            if not chunk:
                return
            offset += len(chunk)
            yield chunk

    def __iter__(self) -> Iterator[ShardKey]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def encode_plan(settings: Mapping[str, Any], shards: Iterable[tuple[ShardKey, Iterable[ImageRef]]]) -> Iterator[bytes]:
    """Return the lines of a plan's file."""
    header = (json.dumps({"settings": dict(settings)}, sort_keys=True) + "\n").encode()
    return chain([header], (_encode_row(key, ref) for key, refs in shards for ref in refs))


def write_plan(
    stream: BinaryIO, settings: Mapping[str, Any], shards: Iterable[tuple[ShardKey, Iterable[ImageRef]]]
) -> Plan:
    """Write a plan into an empty file, from which its images are read later on."""
    places: dict[ShardKey, tuple[int, int]] = {}
    lines = encode_plan(settings, ())
    offset = sum(map(stream.write, lines))
    for key, refs in shards:
        begin = offset
        for ref in refs:
            offset += stream.write(_encode_row(key, ref))
        places[key] = begin, offset - begin
    stream.flush()
    return Plan(settings, PlanFile(stream, places))


def _encode_row(key: ShardKey, ref: ImageRef) -> bytes:
    # A million of them: an encoder that is made once, and no dictionaries.
    return (
        f'{{"set": {quoted(ref.set_name)}, "shard": {key.number}, "of": {key.of}, "img_id": {quoted(ref.img_id)}, '
        f'"uri": {quoted(ref.uri)}, "size": {ref.size}, "version": {quoted(ref.version)}, '
        f'"captions": {quoted(ref.captions)}, "boxes": {quoted(ref.boxes)}}}\n'
    ).encode()


def read_plan(stream: BinaryIO, source: str) -> Plan:
    """Read what `encode_plan` wrote.

    Args:
        stream: the file, from which the images are read later on; it must be one that can be sought in.
        source: its name.

    Raises:
        ValueError: it is no plan; names `source`.
    """
    places: dict[ShardKey, tuple[int, int]] = {}
    try:
        header = stream.readline()
        settings = parse_json(header)["settings"]
        if not isinstance(settings, dict):
            raise ValueError(f"settings that are a {type(settings).__name__}")
        offset = begin = len(header)
        group: tuple[str, int, int] | None = None
        count = 0
        groups = set()
        for line in stream:
            own, _ = _decode_row(line)
            if own != group:
                if group is not None:
                    places[ShardKey(*group, count)] = begin, offset - begin
                if own in groups:
                    raise ValueError(f"the rows of shard {own[1]} of {own[0]} in two places")
                groups.add(own)
                group, begin, count = own, offset, 0
            offset += len(line)
            count += 1
        if group is not None:
            places[ShardKey(*group, count)] = begin, offset - begin
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{source}: expected the plan of an earlier run, got something else ({error}); "
            "start afresh with --overwrite or choose another --output"
        ) from error
    return Plan(settings, PlanFile(stream, places))


def _decode_row(line: bytes) -> tuple[tuple[str, int, int], ImageRef]:
    row = parse_json(line)
    for name, kind in _ROW_TYPES.items():
        if type(row[name]) is not kind:
            raise ValueError(f"{name} that is a {type(row[name]).__name__}")
    return (row["set"], row["shard"], row["of"]), _image_ref(row)


def _image_ref(row: Mapping[str, Any]) -> ImageRef:
    return ImageRef(row["set"], row["img_id"], row["uri"], row["size"], row["version"], row["captions"], row["boxes"])
