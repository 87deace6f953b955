"""The readers of other programs' features and captions, as `benchmarks.fuzz` feeds them."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path

from benchmarks.support import fuzz_source_seeds as seeds
from benchmarks.support.fuzz_target import SOURCE, Target, check_message, write_file
from region_features.formats import imagecaptioning
from region_features.formats.captions import read_caption_file
from region_features.formats.image_sizes import read_image_sizes
from region_features.formats.openvqa import decode_openvqa
from region_features.formats.uniter import KEY_LIST, decode_uniter_record
from region_features.lmdb_store.reader import DATA_FILE
from region_features.sources.base import Place, Source
from region_features.sources.find import open_source
from region_features.sources.lmdb_forms import decode_att, form_of

_MOST_PLACES = 50
_HEAD_BYTES = 200


def _read_all(path: str) -> None:
    """Read the records of a source as an import does: one that is damaged leaves the others."""
    source = open_source(path)
    for place in islice(source.places() if source else (), _MOST_PLACES):
        if isinstance(place, Place):
            try:
                source.read(place.place)  # type: ignore[union-attr]  # else there are no places
            except ValueError as error:
                check_message(error)


def _read_lmdb(data: bytes) -> None:
    _read_all(str(Path(write_file(data, f"{SOURCE} as lmdb/{DATA_FILE}")).parent))


def _read_value(data: bytes) -> None:
    """Read a value of an LMDB of any program."""
    boxes = str(Path(write_file(b"", f"{SOURCE} of boxes_box/{DATA_FILE}")).parent)
    for other_keys in ((), (KEY_LIST,)):
        form = form_of(boxes.replace("_box", "_att"), data, other_keys)
        form.peek(data[:_HEAD_BYTES], b"7")
        values = [data, *(seeds.box_files() if form.boxes else ())]
        try:
            form.decode(values, b"7", SOURCE)
        except ValueError as error:
            check_message(error)


def _read_att(data: bytes) -> None:
    decode_att(data, seeds.box_files()[0], "7", SOURCE)


def _read_box(data: bytes) -> None:
    decode_att(imagecaptioning.encode_att(seeds.record()), data, "7", SOURCE)


def _read_butd(data: bytes) -> None:
    write_file(seeds.row_pickles()[0], f"{SOURCE}_imgid2idx.pkl")
    _read_all(write_file(data, f"{SOURCE}.hdf5"))


def _read_rows(data: bytes) -> None:
    write_file(data, f"{SOURCE}_imgid2idx.pkl")
    _read_all(write_file(_BUTD_FILE, f"{SOURCE}.hdf5"))


_BUTD_FILE = seeds.butd_files()[0]


def _read_captions(data: bytes) -> None:
    list(read_caption_file(io.BytesIO(data).read, SOURCE))


@cache
def _sources() -> list[Source]:
    """Make a source of each kind."""
    write_file(seeds.row_pickles()[0], f"{SOURCE} of butd_imgid2idx.pkl")
    write_file(seeds.box_files()[0], f"{SOURCE} of files_box/7.npy")
    paths = [
        write_file(seeds.tables()[0], f"{SOURCE} of rows"),
        write_file(seeds.tars()[0], f"{SOURCE} of samples"),
        write_file(seeds.m2_files()[0], f"{SOURCE} of m2"),
        write_file(_BUTD_FILE, f"{SOURCE} of butd.hdf5"),
        write_file(seeds.six_column_rows()[0], f"{SOURCE} of rows.tsv"),
        Path(write_file(seeds.lmdbs()[0], f"{SOURCE} of values/{DATA_FILE}")).parent,
        Path(write_file(seeds.openvqa_files()[0], f"{SOURCE} of openvqa/x_7.jpg.npz")).parent,
        Path(write_file(seeds.feature_files()[0], f"{SOURCE} of files_att/7.npz")).parent,
        write_file(seeds.shards()[0], f"{SOURCE} of set-00000-of-00001.tfrecord"),
    ]
    return [source for source in map(open_source, map(str, paths)) if source]


def _places() -> list[bytes]:
    return [place.place.encode() for source in _sources() for place in source.places() if isinstance(place, Place)]


def _read_place(data: bytes) -> None:
    """Read what a plan says is the place of a record."""
    for source in _sources():
        try:
            source.read(data.decode("utf-8", "replace"))
        except ValueError as error:
            check_message(error)
        except OSError:  # of the file system; the failure names the image's URI
            continue


def _named(feed: Callable[[bytes], object], make: Callable[[], list[bytes]]) -> Target:
    return Target(feed, make, (ValueError,), True)


SOURCE_TARGETS = {
    "openvqa npz": _named(lambda data: decode_openvqa(data, "x_7", SOURCE), seeds.openvqa_files),
    "imagecaptioning npz": _named(_read_att, seeds.feature_files),
    "imagecaptioning npy": _named(_read_box, seeds.box_files),
    "uniter value": _named(lambda data: decode_uniter_record(data, "x_7", SOURCE), seeds.uniter_values),
    "lmdb value": _named(_read_value, lambda: [*seeds.mmf_values(), *seeds.uniter_values(), *seeds.feature_files()]),
    "lmdb of others": _named(_read_lmdb, seeds.lmdbs),
    "parquet": _named(lambda data: _read_all(write_file(data)), seeds.tables),
    "webdataset tar": _named(lambda data: _read_all(write_file(data)), seeds.tars),
    "m2 hdf5": _named(lambda data: _read_all(write_file(data)), seeds.m2_files),
    "butd-vqa hdf5": _named(_read_butd, seeds.butd_files),
    "butd-vqa rows": _named(_read_rows, seeds.row_pickles),
    "tsv of six columns": _named(lambda data: _read_all(write_file(data, f"{SOURCE}.tsv")), seeds.six_column_rows),
    "place of a record": _named(_read_place, _places),
    "coco captions": _named(_read_captions, seeds.coco_captions),
    "caption lines": _named(_read_captions, seeds.caption_lines),
    "image sizes": _named(lambda data: list(read_image_sizes(io.BytesIO(data).read, SOURCE)), seeds.image_sizes),
}
