"""The parsers of foreign bytes, each with small whole inputs to begin from, for `benchmarks.fuzz` and its test."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from pathlib import Path

import lmdb
import numpy as np

from beam_pipeline.layout import Layout
from beam_pipeline.preflight.output_folder import open_output
from beam_pipeline.preflight.provenance import read_previous
from benchmarks.support import fuzz_seeds
from benchmarks.support.fuzz_own_files import OWN_FILE_TARGETS
from benchmarks.support.fuzz_sources import SOURCE_TARGETS
from benchmarks.support.fuzz_target import SOURCE, Target, check_message, write_file
from region_features.detector.detectron2.config_file import read_config
from region_features.detector.weights.restricted_pickle import unpickle
from region_features.detector.weights.weights_file import read_checkpoint, read_weights
from region_features.download.http import load_description
from region_features.download.unzip import check_archive, check_unpacked_size
from region_features.formats import boxes, example, hard_negatives, karpathy, pickles, tfrecord, tsv
from region_features.formats.annotations import decode_annotation_file
from region_features.images.decode import decode_image, working_bytes
from region_features.images.zip_archive import list_entries, read_entry
from region_features.lmdb_store.reader import DATA_FILE, open_lmdb, stored_keys
from region_features.lmdb_store.value_codecs import VALUE_CODECS, codec_name_of
from region_features.records.build_note import BuildNote
from region_features.records.failure import Failure, ImageFailure
from region_features.records.plan_file import read_plan
from region_features.records.stats import ShardStats
from region_features.validation.hard_negatives import check_negatives
from transforms.manifest import Provenance

_PIXEL_LIMIT, _ENTRY_LIMIT = 4_000_000, 1 << 20


def _decode_image(data: bytes) -> None:
    working_bytes(data)
    decode_image(data, _PIXEL_LIMIT, exif=True)


def _read_zip(data: bytes) -> None:
    stream = io.BytesIO(data)
    for info in list_entries(stream):
        read_entry(stream, info, _ENTRY_LIMIT)


def _check_archive(data: bytes) -> None:
    path = write_file(data)
    check_unpacked_size(path, _ENTRY_LIMIT)
    check_archive(path, lambda done, total: None)


def _read_records(data: bytes) -> None:
    list(tfrecord.record_offsets(io.BytesIO(data), len(data), SOURCE))
    list(tfrecord.read_records(io.BytesIO(data), SOURCE))


def _read_rows(data: bytes) -> None:
    for place in tsv.find_rows(io.BytesIO(data), SOURCE):
        if not isinstance(place, ValueError):
            tsv.decode_tsv_row(data[place.offset : place.offset + place.length], SOURCE)


def _value_target(form: str) -> Target:
    codec = VALUE_CODECS[form]

    def feed(data: bytes) -> None:
        codec.peek(data)
        try:
            codec.decode(data, SOURCE)
        except ValueError as error:
            check_message(error)
            codec.decode_keys(data, SOURCE)

    return Target(
        feed, lambda: [codec.encode(fuzz_seeds.record()), codec.encode_keys([b"1", b"a"])], (ValueError,), True
    )


def _read_lmdb(data: bytes) -> None:
    path = write_file(data, f"lmdb/{DATA_FILE}")
    folder = str(Path(path).parent)
    with open_lmdb(folder, readahead=False) as env:
        for key in stored_keys(folder, env, SOURCE):
            try:
                with env.begin() as transaction:
                    transaction.get(key)
            except lmdb.Error:
                continue


def _read_weights(data: bytes) -> None:
    path = write_file(data)
    for read in (read_weights, read_checkpoint):
        try:
            read(path, SOURCE)
        except ValueError as error:
            check_message(error)


def _read_torch_zip(data: bytes) -> None:
    """Wrap a pickle, so that it is reached behind the checksums of its archive."""
    content = {"a/data.pkl": data, "a/byteorder": b"little", "a/data/0": bytes(24), "a/data/1": bytes(24)}
    _read_weights(fuzz_seeds.zip_file({**content, "a/version": b"3\n"}, zipfile.ZIP_STORED))


def _read_note(data: bytes) -> None:
    path = write_file(data, "note/source.json")
    with contextlib.suppress(ValueError):
        codec_name_of(str(Path(path).parent))
    BuildNote.from_json(data, SOURCE)


def _read_manifest(data: bytes) -> None:
    layout = Layout(str(Path(write_file(data, "out/manifest.json")).parent))
    open_output(layout.output)
    read_previous(layout)


def _yaml(data: bytes) -> None:
    def read(path: str) -> bytes:
        if path != SOURCE:
            raise FileNotFoundError(path)
        return data

    read_config(SOURCE, read)


def _ids(data: bytes) -> None:
    karpathy.parse_test1k_ids(data, SOURCE)


def _description(data: bytes) -> None:
    part = write_file(b"half", "a.part")
    write_file(data, "a.part.json")
    load_description(part, "http://host/a")


_JSON = (ValueError,)
TARGETS = {
    "image": Target(_decode_image, fuzz_seeds.images, (ImageFailure,)),
    "zip": Target(_read_zip, fuzz_seeds.zips),
    "archive": Target(_check_archive, fuzz_seeds.zips, named=True),
    "tfrecord": Target(_read_records, fuzz_seeds.records, _JSON, True),
    "example": Target(lambda data: example.decode_example(data, SOURCE), fuzz_seeds.examples, _JSON, True),
    "tsv": Target(
        _read_rows, lambda: [tsv.encode_tsv_row(fuzz_seeds.record(), columns) for columns in (10, 13)], _JSON, True
    ),
    **{f"value {form}": _value_target(form) for form in VALUE_CODECS},
    "lmdb": Target(_read_lmdb, fuzz_seeds.lmdbs),
    "pickle": Target(
        lambda data: pickles.load_restricted(data, dict, "a dict", SOURCE),
        lambda: [pickle.dumps({"a": [1, b"b", 2.5, {"c": (None,)}]}, protocol) for protocol in (0, 2, 4)],
        _JSON,
        True,
    ),
    "caffemodel": Target(_read_weights, fuzz_seeds.caffemodels),
    "safetensors": Target(_read_weights, fuzz_seeds.safetensors_files),
    "detectron2 pickle": Target(
        lambda data: unpickle(io.BytesIO(data), SOURCE),
        lambda: [pickle.dumps({"model": fuzz_seeds.ARRAYS, "__author__": "me"}, protocol) for protocol in (0, 2, 4)],
        _JSON,
        True,
    ),
    "torch file": Target(_read_weights, fuzz_seeds.torch_files),
    "torch pickle": Target(_read_torch_zip, fuzz_seeds.pickles_within_torch),
    "captions": Target(
        lambda data: list(karpathy.read_dataset(io.BytesIO(data).read, SOURCE)), fuzz_seeds.datasets, _JSON, True
    ),
    "test1k ids": Target(_ids, lambda: [b"42\n43\n"], _JSON, True),
    "annotations": Target(
        lambda data: decode_annotation_file(data, SOURCE), lambda: [b'{"sentences": ["a"], "id": 4}\n'], ()
    ),
    "boxes": Target(
        lambda data: boxes.parse_boxes(data, SOURCE),
        lambda: [b'{"img_id": "a", "boxes": [[0, 0, 3, 4.5]]}\n{"img_id": "b", "boxes": []}\n'],
        _JSON,
        True,
    ),
    "plan": Target(lambda data: read_plan(io.BytesIO(data), SOURCE), fuzz_seeds.plans, _JSON, True),
    "stats": Target(lambda data: ShardStats.from_json(data, SOURCE), fuzz_seeds.stats, _JSON, True),
    "failures": Target(Failure.from_lines, lambda: [fuzz_seeds.FAILURE.to_line().encode()], (ValueError, TypeError)),
    "build note": Target(_read_note, fuzz_seeds.notes, _JSON, True),
    "manifest": Target(_read_manifest, fuzz_seeds.manifests),
    "provenance": Target(
        lambda data: Provenance.read(write_file(data)),
        lambda: [Provenance({"a": 1}, [fuzz_seeds.FAILURE]).to_json()],
        (ValueError, KeyError, TypeError),
    ),
    "config": Target(_yaml, lambda: [b"MODEL:\n  WEIGHTS: a\n  META_ARCHITECTURE: GeneralizedRCNN\n"], _JSON, True),
    "negatives": Target(
        lambda data: list(
            check_negatives(data, hard_negatives.encode_pickle(np.zeros((2, 2), int), np.zeros(2, int)), 2, None)
        ),
        fuzz_seeds.npz,
        (),
    ),
    "download note": Target(_description, lambda: [b'{"url": "http://host/a", "size": 7, "validator": "\\"v\\""}'], ()),
    **SOURCE_TARGETS,
    **OWN_FILE_TARGETS,
}
