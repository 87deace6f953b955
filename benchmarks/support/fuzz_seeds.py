"""Small whole inputs of every parser of foreign bytes, from which fuzzing begins."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from PIL import Image

from benchmarks.support.fuzz_target import SCRATCH
from region_features.detector.weights.caffemodel import NetParameter
from region_features.formats import example, hard_negatives, safetensors, tfrecord
from region_features.lmdb_store.reader import DATA_FILE
from region_features.records.build_note import BuildNote
from region_features.records.failure import Failure
from region_features.records.plan import ImageRef, ShardKey
from region_features.records.plan_file import encode_plan
from region_features.records.region_record import RegionRecord
from region_features.records.stats import ShardStats


def record(img_id: str = "x_7", count: int = 2) -> RegionRecord:
    """Make a small record."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.random((count, 2, 2), np.float32), axis=1) * 9
    ids, scores = np.arange(count, dtype=np.int64), rng.random(count, np.float32)
    rows = [rng.random((count, width), np.float32) for width in (3, 4, 2)]
    return RegionRecord(img_id, 10, 12, ids, scores, ids, scores, corners.reshape(count, 4), *rows)


def images() -> list[bytes]:
    """Make an image of each format."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    kinds: list[tuple[str, dict[str, Any]]] = [("JPEG", {}), ("JPEG", {"progressive": True})]
    kinds += [(kind, {}) for kind in ("PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")]
    data = []
    for kind, options in kinds:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind, **options)
        data.append(stream.getvalue())
    return data


def zip_file(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Pack files into an archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def zips() -> list[bytes]:
    """Make archives, stored and deflated."""
    return [zip_file({"a/b.jpg": bytes(50), "ä.txt": b"text"}, method) for method in (0, 8)]


def records() -> list[bytes]:
    """Make a TFRecord file."""
    stream = io.BytesIO()
    for content in (b"", b"one", bytes(300)):
        tfrecord.write_record(stream, content)
    return [stream.getvalue()]


def examples() -> list[bytes]:
    """Make messages with and without boxes."""
    return [
        example.encode_example(example.ImageExample(record(), "x_7.jpg", "ab" * 32, ("A cat.",), (3,), "train")),
        example.encode_example(example.ImageExample(record(count=0), "x_7.jpg", "", (), (), "")),
    ]


def lmdbs() -> list[bytes]:
    """Make an LMDB of one leaf, and one of several."""
    made = []
    for count in (1, 200):
        folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        with lmdb.open(str(folder), map_size=1 << 20) as env, env.begin(write=True) as transaction:
            for number in range(count):
                transaction.put(b"%d" % number, bytes(number))
            transaction.put(b"large", bytes(5000))
        made.append((folder / DATA_FILE).read_bytes())
    return made


def caffemodels() -> list[bytes]:
    """Make nets of one layer, in both versions."""
    modern, old = NetParameter(name=b"net"), NetParameter()
    blob = modern.layer.add(name=b"conv1", type=b"Convolution").blobs.add(data=[np.ones(4, "f4").tobytes()])
    blob.shape.dim.extend((2, 2))
    shape = {"num": 1, "channels": 1, "height": 2, "width": 2}
    old.layers.add(name=b"conv1").blobs.add(data=[np.ones(4, "f4").tobytes()], **shape)
    return [modern.SerializeToString(), old.SerializeToString()]


ARRAYS = {"backbone.stem.conv1.weight": np.ones((2, 3), np.float32), "b": np.arange(3)}


def safetensors_files() -> list[bytes]:
    """Make a file of one tensor."""
    return [b"".join(safetensors.encode_safetensors({"a.weight": np.ones((2, 3), np.float32)}, {"format": "pt"}))]


def torch_state() -> Any:
    """Make a state dict."""
    import torch

    return {"a.weight": torch.ones(2, 3), "b": torch.arange(3)}


def torch_files() -> list[bytes]:
    """Make checkpoints, zipped and of the older format."""
    import torch

    made = []
    for zipped in (True, False):
        stream = io.BytesIO()
        torch.save(torch_state(), stream, _use_new_zipfile_serialization=zipped)
        made.append(stream.getvalue())
    return made


def pickles_within_torch() -> list[bytes]:
    """Return the pickle in a zipped checkpoint."""
    with zipfile.ZipFile(io.BytesIO(torch_files()[0])) as archive:
        return [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]


def datasets() -> list[bytes]:
    """Make a captions file."""
    sentence = {"tokens": ["a"], "raw": "A cat.", "imgid": 0, "sentid": 5}
    row = {"filepath": "val2014", "filename": "COCO_val2014_000000000042.jpg", "imgid": 0, "split": "val"}
    image = {**row, "cocoid": 42, "sentids": [5], "sentences": [sentence]}
    return [json.dumps({"images": [image, {**image, "cocoid": 43}], "dataset": "coco"}).encode()]


def plans() -> list[bytes]:
    """Make a plan of two shards."""
    refs = [ImageRef("a", f"x_{number}", f"a/x_{number}.jpg", 7, "v") for number in range(3)]
    shards = {ShardKey("a", 0, 2, 1): refs[:1], ShardKey("a", 1, 2, 2): refs[1:]}
    return [b"".join(encode_plan({"min_boxes": 10}, shards.items()))]


FAILURE = Failure("a/x_1.jpg", "x_1", "decode", "damaged")


def stats() -> list[bytes]:
    """Make a shard's stats."""
    return [ShardStats("s", {"a": 1}, "in", ("x_2",), {"x_2": "ab"}, (FAILURE,), 1, 7, "cd", "AAAAAA==").to_json()]


def notes() -> list[bytes]:
    """Make a build note."""
    return [BuildNote("ab", {"lmdb_form": "volta"}, {"data.mdb": 7}, {"records": 1}, {"data.mdb": "cd"}).to_json()]


def manifests() -> list[bytes]:
    """Make a run's manifest."""
    files = {"tfrecord": {"s": {"bytes": 1}}, "lmdb": {"a": {"paths": ["b"]}}}
    counts = {"in": 1, "written": 1, "failed": 0}
    manifest = {
        "status": "done",
        "counts": counts,
        "files": files,
        "sets": {"a": counts},
        "digests": {"b": {"bytes": 1}},
    }
    return [json.dumps(manifest).encode()]


def npz() -> list[bytes]:
    """Make hard negatives."""
    return [hard_negatives.encode_npz(np.array([[0, 1], [1, 0]]), np.array([7, 8]))]
