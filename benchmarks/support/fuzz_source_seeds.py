"""Small whole inputs of the readers of other programs' features, as this program and as others write them."""

from __future__ import annotations

import base64
import io
import pickle
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.support.fuzz_seeds import record
from benchmarks.support.fuzz_target import SCRATCH
from region_features.formats import hdf5, imagecaptioning, mmf, openvqa, parquet, spatial, tsv6, uniter, webdataset
from region_features.formats.example import ImageExample, encode_example
from region_features.formats.tfrecord import write_record
from region_features.lmdb_store.reader import DATA_FILE

_RECORD = record()
# As bottom-up-attention VQA's: ids are numbers, and each image has as many boxes.
_BUTD_ARRAYS = {
    "image_features": _RECORD.features,
    "image_bb": _RECORD.boxes,
    "spatial_features": spatial.relative_boxes(_RECORD),
}


def _npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _file(write: Callable[[str], object]) -> bytes:
    with tempfile.NamedTemporaryFile(dir=SCRATCH) as file:
        write(file.name)
        return Path(file.name).read_bytes()


def openvqa_files() -> list[bytes]:
    """Make npz files of OpenVQA, and of the script that turns the features the other way."""
    other = _npz(x=_RECORD.features, bbox=_RECORD.boxes, image_h=10, image_w=12, num_bbox=2, info=np.array("text"))
    return [openvqa.encode_openvqa(_RECORD), other]


def feature_files() -> list[bytes]:
    """Make npz files of ImageCaptioning.pytorch."""
    return [imagecaptioning.encode_att(_RECORD), _npz(feat=_RECORD.features)]


def box_files() -> list[bytes]:
    """Make the npy files beside them."""
    return [imagecaptioning.encode_box(_RECORD)]


def uniter_values() -> list[bytes]:
    """Make values of UNITER's LMDBs: msgpack, and compressed npz."""
    places = spatial.relative_boxes(_RECORD)
    half = {"features": _RECORD.features, "conf": _RECORD.objects_conf, "soft_labels": _RECORD.cls_prob}
    arrays = {name: array.astype(np.float16) for name, array in {"norm_bb": places, **half}.items()}
    return [uniter.encode_uniter(_RECORD), _npz(**arrays)]


def _named_fields(stored: Callable[[Any], Any]) -> dict[str, Any]:
    sizes = {"image_id": "7", "image_h": "10", "image_w": np.int64(12), "num_boxes": 2}
    return {**sizes, "boxes": stored(_RECORD.boxes), "features": stored(_RECORD.features)}


def mmf_values() -> list[bytes]:
    """Make values of MMF's and ViLBERT's LMDBs: our pickle, plain ones, arrays as base64."""
    plain = {**_named_fields(lambda array: array), "feature_path": "val/x_7.npy", "objects": _RECORD.objects_id}
    texts = _named_fields(lambda array: base64.b64encode(array.tobytes()))
    return [mmf.encode_mmf(_RECORD), *(pickle.dumps(plain, protocol) for protocol in (2, 4, 5)), pickle.dumps(texts)]


def lmdbs() -> list[bytes]:
    """Make an LMDB of MMF, and one of UNITER."""
    return [
        _lmdb({b"7": mmf.encode_mmf(_RECORD), b"8": mmf_values()[1]}),
        _lmdb({b"coco_val2014_000000000042.npz": uniter_values()[0], **uniter.encode_key_list([b"7"])}),
    ]


def _lmdb(values: Mapping[bytes, bytes]) -> bytes:
    folder = Path(tempfile.mkdtemp(dir=SCRATCH))
    with lmdb.open(str(folder), map_size=1 << 20) as env, env.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return (folder / DATA_FILE).read_bytes()


def tables() -> list[bytes]:
    """Make Parquet tables: with lists of one size and of any, and compressed with a dictionary."""
    example = ImageExample(_RECORD, "x_7.jpg", "ab" * 32, ("A cat.",), (3,), "train")
    made = []
    for same_boxes, compression in ((True, "none"), (False, "snappy")):
        schema = parquet.table_schema(parquet.TableShape.of(_RECORD, same_boxes))
        table = pa.Table.from_batches([parquet.encode_rows([example, example], schema)])
        made.append(_file(partial(pq.write_table, table, compression=compression)))
    return made


def tars() -> list[bytes]:
    """Make a tar of two samples."""
    samples = [
        webdataset.encode_sample(ImageExample(record(name), f"{name}.jpg", "", ("A cat.",), (3,), "train"))
        for name in ("x_7", "y.8")
    ]
    stream = io.BytesIO()
    webdataset.write_tar(stream, samples)
    return [stream.getvalue()]


def m2_files() -> list[bytes]:
    """Make HDF5 files of M2: as this program writes them, and compressed in chunks by a later version."""
    arrays = {"7_features": _RECORD.features, "7_boxes": _RECORD.boxes, "7_cls_prob": _RECORD.cls_prob}

    def write_plain(path: str) -> None:
        with hdf5.create_hdf5(path) as file:
            for name, array in arrays.items():
                hdf5.write_dataset(file, name, array)

    return [_file(write_plain), _file(partial(_write_chunked, arrays))]


def butd_files() -> list[bytes]:
    """Make HDF5 files of bottom-up-attention VQA: of equal numbers of boxes, and adaptive."""
    equal = {name: array[None] for name, array in _BUTD_ARRAYS.items()}
    adaptive = {**_BUTD_ARRAYS, "pos_boxes": np.array([[0, 2]])}
    return [_file(partial(_write_chunked, arrays)) for arrays in (equal, adaptive)]


def _write_chunked(arrays: Mapping[str, Any], path: str) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=True, compression="gzip")


def row_pickles() -> list[bytes]:
    """Make pickles that say which row of such a file an image has."""
    return [pickle.dumps({7: 0}, protocol) for protocol in (2, 4)]


def six_column_rows() -> list[bytes]:
    """Make rows of the published features, as they are and as old scripts wrapped them."""
    row = tsv6.encode_six_columns(_RECORD)
    *cells, boxes, features = row.decode().strip().split("\t")
    return [row, ("\t".join([*cells, f"b'{boxes}'", features.rstrip("=")]) + "\n").encode()]


def shards() -> list[bytes]:
    """Make a shard of one record."""
    stream = io.BytesIO()
    write_record(stream, encode_example(ImageExample(_RECORD, "x_7.jpg", "", (), (), "")))
    return [stream.getvalue()]


def coco_captions() -> list[bytes]:
    """Make a file of COCO's captions."""
    images = b'{"id": 42, "file_name": "COCO_val2014_000000000042.jpg", "height": 10, "width": 12}'
    rows = b'{"image_id": 42, "id": 3, "caption": "A cat."}, {"image_id": 42, "id": 4, "caption": "\\u00e4"}'
    return [b'{"info": {}, "images": [' + images + b'], "annotations": [' + rows + b"]}"]


def caption_lines() -> list[bytes]:
    """Make captions as JSON lines."""
    return [b'{"img_id": "x_7", "sentences": ["A cat.", "b"], "split": "val"}\n{"img_id": "y", "sentences": []}\n']


def image_sizes() -> list[bytes]:
    """Make files of the images' sizes, of both schemas."""
    return [*coco_captions(), b'{"img_id": "x_7", "height": 10, "width": 12}\n{"img_id": "y", "height": 1, "width": 2}']
