"""Files of features and captions that were made, or damaged, to break their readers; most were found by fuzzing."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.support import fuzz_source_seeds as seeds
from region_features.formats import parquet
from region_features.formats.captions import read_caption_file
from region_features.formats.image_sizes import read_image_sizes
from region_features.formats.numpy_pickles import load_fields
from region_features.lmdb_store.value_codecs import codec_name_of
from region_features.records.build_note import BuildNote
from region_features.sources.base import Place, Source
from region_features.sources.find import open_source

BOXES = np.zeros((2, 4), np.float32)


def read_all(path: Path) -> list[Any]:
    """Return what an import makes of a file: records, and the messages of those that are damaged."""
    source = open_source(str(path))
    assert isinstance(source, Source)
    results: list[Any] = []
    for entry in source.places():
        try:
            results.append(source.read(entry.place) if isinstance(entry, Place) else entry.reason)
        except ValueError as error:
            results.append(str(error))
    return results


def m2_file(path: Path, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in {"ok_features": BOXES, "ok_boxes": BOXES, "x_boxes": BOXES, **datasets}.items():
            file[name] = value
    return path


@pytest.mark.parametrize("shape", [(200_000, 2048), (10**10, 2048)])
def test_an_hdf5_file_that_claims_much_more_than_an_image_has_takes_no_memory(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    path = m2_file(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file.create_dataset("x_features", shape, "f4", chunks=(1, 2048))
    _, refused = read_all(path)
    assert refused.startswith(f"{path}, dataset x_features: expected an array, got: an array of ")
    assert path.stat().st_size < 10_000


def test_one_image_of_an_hdf5_file_that_is_no_array_leaves_the_others(tmp_path: Path) -> None:
    other = m2_file(tmp_path / "other.hdf5")
    names = {"x_features": h5py.SoftLink("/x_features"), "y_features": h5py.ExternalLink(str(other), "ok_features")}
    path = m2_file(tmp_path / "a.hdf5", **names, z_features="text")
    with h5py.File(path, "a") as file:
        file.create_group("w_features")
        h5py.h5d.create(file.id, b"\xff_features", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((1,)))
    results = read_all(path)
    assert [result.num_boxes for result in results if not isinstance(result, str)] == [2]
    refused = sorted((result for result in results if isinstance(result, str)), reverse=True)
    assert [text.partition(", dataset ")[2].partition(",")[0] for text in refused] == [
        f"{name}_features: expected an array" for name in ("z", "y", "x", "w", "\\xff")
    ]


def test_a_damaged_name_list_of_an_hdf5_file_is_one_line(tmp_path: Path) -> None:
    path = m2_file(tmp_path / "a.hdf5")
    path.write_bytes(path.read_bytes().replace(b"HEAP", b"HEAD"))
    with pytest.raises(ValueError, match=r"a\.hdf5: expected names of datasets, got: .*heap"):
        open_source(str(path))


@pytest.mark.parametrize("places", [[[0.5, 2]], [[0, 1, 2]], [["a", "b"]], [[0, 10**12]]])
def test_rows_of_an_adaptive_hdf5_file_that_are_none(places: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    path.write_bytes(seeds.butd_files()[1])
    (tmp_path / "a_imgid2idx.pkl").write_bytes(seeds.row_pickles()[0])
    with h5py.File(path, "a") as file:
        del file["pos_boxes"]
        file["pos_boxes"] = np.array(places, h5py.string_dtype() if places == [["a", "b"]] else None)
    (result,) = read_all(path)
    if places == [[0, 10**12]]:
        assert result.num_boxes == 2  # as many as there are
    else:
        assert result.startswith(f"{path}, ") and "pos_boxes: expected " in result


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_size_that_follows_of_no_number_is_a_failure(value: float, tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    path.write_bytes(seeds.butd_files()[0])
    (tmp_path / "a_imgid2idx.pkl").write_bytes(seeds.row_pickles()[0])
    with h5py.File(path, "a") as file:
        file["image_bb"][...] = value
    assert "expected boxes, and their places relative to the image" in read_all(path)[0]


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    content = [header.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512) for header, data in members]
    path.write_bytes(b"".join(content) + bytes(1024))
    return path


def header_of(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.type = size, kind
    return header


def test_a_tar_whose_sizes_lead_back_ends(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", (header_of("a.json", 1), b"1"), (header_of("x.safetensors", -1536), b""))
    with pytest.raises(ValueError, match=r"a\.tar: expected a whole tar, got: 'x\.safetensors' of -1536 bytes"):
        read_all(path)


def test_a_tar_that_claims_more_than_an_image_has_takes_no_memory(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", (header_of("x.safetensors", 7 << 30), b"abc"))
    source = open_source(str(path))
    assert source
    place = next(source.places())
    assert isinstance(place, Place)
    with pytest.raises(ValueError, match=r"a\.tar#offset=512&length=7516192768: expected"):
        source.read(place.place)


def test_a_tar_with_a_sparse_map_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    sparse = b"30 GNU.sparse.map=0,abc,5,xyz\n"
    path = tar_of(
        tmp_path / "a.tar",
        (header_of("p", len(sparse), tarfile.XHDTYPE), sparse),
        (header_of("x.safetensors", 3), b"abc"),
    )
    with pytest.raises(ValueError, match=r"a\.tar: expected a whole tar"):
        read_all(path)


def test_a_damaged_parquet_table_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = seeds.tables()[0]
    path = tmp_path / "a.parquet"
    end = len(table) - 8 - int.from_bytes(table[-8:-4], "little")  # where the description of the columns begins
    path.write_bytes(table[:end] + b"\xff" * 8 + table[end + 8 :])
    with pytest.raises(ValueError, match=r"a\.parquet: expected a whole Parquet file, got: "):
        read_all(path)
    path.write_bytes(table)
    source = open_source(str(path))
    assert source and source.read("group=0&row=1").num_boxes == 2
    for place in ("group=0&row=2", "group=1&row=0", "group=9999999999&row=0"):
        with pytest.raises(ValueError, match=r"a\.parquet"):
            source.read(place)
    monkeypatch.setattr(parquet, "_LARGEST_GROUP", 100)
    with pytest.raises(ValueError, match=r"a\.parquet: .* a group of rows of \d+ bytes, of at most 100"):
        read_all(path)


def test_no_flipped_bit_in_the_description_of_a_table_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"img_id": ["x"], "boxes": [[1.0, 2.0]]}), path, compression="none")
    table = path.read_bytes()
    refused = 0
    for place in range(len(table) - 8 - int.from_bytes(table[-8:-4], "little"), len(table) - 8):
        path.unlink()
        path.write_bytes(table[:place] + bytes([table[place] ^ 1]) + table[place + 1 :])
        try:
            read_all(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 50


def test_a_key_with_many_values_does_not_end_the_process(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), map_size=1 << 20) as env, env.begin(write=True) as transaction:
        for number in range(5):
            transaction.put(b"%d" % number, b"\x80\x04" + bytes(200))
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    for page in range(2):  # both meta pages: the database allows many values of a key
        struct.pack_into("<H", data, page * 4096 + 16 + 24 + 48 + 4, 0x04)
    for begin in range(2 * 4096, len(data), 4096):
        (kind,) = struct.unpack_from("<H", data, begin + 10)
        if kind & 2:  # a leaf: its first node has them
            (node,) = struct.unpack_from("<H", data, begin + 16)
            struct.pack_into("<H", data, begin + node + 4, 0x04)
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(ValueError, match="page 2 of its tree is damaged: a key with many values"):
        read_all(tmp_path)


def test_a_pickled_array_of_a_type_that_does_not_exist_is_refused() -> None:
    value = seeds.mmf_values()[1]
    assert value.count(b"f4") == 1
    with pytest.raises(ValueError, match="the file: expected a pickled dict"):
        load_fields(value.replace(b"f4", b"f1"), "the file")


def test_a_split_that_is_no_text_is_a_failure_of_its_line() -> None:
    line = b'{"img_id": "x", "sentences": [], "split": ["val"]}\n{"img_id": "y", "sentences": []}\n'
    failure, image = read_caption_file(io.BytesIO(line).read, "a.jsonl")
    assert "a.jsonl, line 1: field split: expected one of" in getattr(failure, "reason", "")
    assert getattr(image, "img_id", "") == "y"


DEEP = b"[" * 5000


@pytest.mark.parametrize("start", [b'{"images": ', b'{"images": [', b'{"other": ', b'{"file_name": 1, "images": ['])
def test_captions_and_sizes_that_are_nested_without_end_are_refused(start: bytes) -> None:
    for read in (read_caption_file, read_image_sizes):
        with pytest.raises(ValueError, match=r"the file: .*nested too deep"):
            list(read(io.BytesIO(start + DEEP).read, "the file"))


def test_a_note_that_is_nested_without_end_is_none(tmp_path: Path) -> None:
    (tmp_path / "source.json").write_bytes(DEEP)
    assert codec_name_of(str(tmp_path)) == "volta"
    with pytest.raises(ValueError, match="the note: expected the note"):
        BuildNote.from_json(DEEP, "the note")
    with pytest.raises(ValueError, match="the note: expected the note"):
        BuildNote.from_json(json.dumps([1]).encode(), "the note")
