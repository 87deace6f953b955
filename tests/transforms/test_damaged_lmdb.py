"""An imported LMDB with damaged pages ends in one line, or in the failure of a single image."""

from __future__ import annotations

import pickle
import struct
from io import BytesIO
from pathlib import Path

import lmdb
import pytest

from beam_pipeline.pipeline import main
from region_features.formats.volta import encode_volta
from region_features.lmdb_store.page_check import read_keys
from region_features.lmdb_store.reader import LmdbReader
from region_features.planning.catalog import Catalog
from region_features.records.failure import ImageFailure
from region_features.sources.base import Source
from tests.samples.records import assert_same, make_record
from transforms.imports import list_imports, read_imported_record

PAGE = 4096
IDS = [f"x_{number}" for number in range(1, 501)]
LEAF, OVERFLOW = 0x02, 0x04  # flags in a page's header, bytes 10 and 11; its number is in bytes 0 to 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write an LMDB whose keys fill several leaf pages, each value a run of overflow pages."""
    path = tmp_path / "old_feat.lmdb"
    with lmdb.open(str(path), map_size=1 << 26) as env, env.begin(write=True) as txn:
        for img_id in IDS:
            txn.put(img_id[2:].encode(), encode_volta(make_record(img_id, 3, 512)))
        txn.put(b"keys", pickle.dumps([img_id[2:].encode() for img_id in IDS]))
    assert len(pages(path, LEAF)) > 3 and len(pages(path, OVERFLOW)) == len(IDS) + 1
    return path


def pages(folder: Path, flags: int) -> list[int]:
    """Return the numbers of the pages that have these flags."""
    data = (folder / "data.mdb").read_bytes()
    headers = [struct.unpack_from("<QHH", data, start) for start in range(0, len(data), PAGE)]
    return [number for number, header in enumerate(headers) if (header[0], header[2]) == (number, flags)]


def flip(folder: Path, page: int, offset: int, count: int) -> None:
    """Invert bytes of a page."""
    with open(folder / "data.mdb", "r+b") as stream:
        stream.seek(page * PAGE + offset)
        data = stream.read(count)
        stream.seek(page * PAGE + offset)
        stream.write(bytes(byte ^ 0xFF for byte in data))


def test_a_value_that_cannot_be_read_is_one_failure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(folder, pages(folder, OVERFLOW)[7], 0, PAGE)
    catalog = Catalog()
    listing = list_imports([str(folder)], catalog)
    (failure,) = listing.failures
    lost = failure.uri.rpartition("=")[2]
    assert {ref.img_id for ref in catalog.refs()} == {*IDS} - {f"x_{lost}"}
    assert failure.stage == "import" and failure.reason.startswith(f"{folder}, key b'{lost}': cannot be read (")
    out = tmp_path / "out"
    flags = ["--import_lmdb", str(folder), "--output", str(out), "--outputs", "tfrecord"]
    assert main([*flags, "--failure_threshold", "0.001"]) == 1
    assert "1 of 500 images failed, more than --failure_threshold 0.001 allows" in capsys.readouterr().err
    assert main([*flags, "--failure_threshold", "0.002"]) == 0
    assert (out / "failures.jsonl").read_text() == failure.to_line()
    # What verify compares with the key list: a value that is lost is still listed.
    assert len(LmdbReader(str(folder)).stored_keys()) == len(IDS)


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_a_lost_page_of_keys_refuses_the_import_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fill: bytes
) -> None:
    """Without a check of the pages, lmdb ends the process when it comes to the next page of keys and finds none."""
    last = pages(folder, LEAF)[-1]
    with open(folder / "data.mdb", "r+b") as stream:
        stream.seek(last * PAGE)
        stream.write(fill * PAGE)
    assert main(["--import_lmdb", str(folder), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"--import {folder}: cannot be read (page {last} of its tree is damaged" in error
    assert len(error.splitlines()) == 1
    with pytest.raises(ValueError, match=rf"^{folder}: cannot be read \(page {last} of its tree is damaged"):
        LmdbReader(str(folder)).stored_keys()


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [
        (0, "<Q", 9),  # the page's number
        (10, "<H", OVERFLOW),
        (12, "<H", 0),  # end of the offsets
        (12, "<H", 65534),
        (14, "<H", 0),  # begin of the nodes
        (16, "<H", PAGE - 4),  # offset of the first node
        (16, "<H", 0),
    ],
)
def test_a_page_of_keys_that_contradicts_itself_is_named(folder: Path, offset: int, layout: str, value: int) -> None:
    page = pages(folder, LEAF)[-1]
    with open(folder / "data.mdb", "r+b") as stream:
        stream.seek(page * PAGE + offset)
        stream.write(struct.pack(layout, value))
    with open(folder / "data.mdb", "rb") as stream, pytest.raises(ValueError, match=f"^page {page} of its tree"):
        read_keys(stream, PAGE)


@pytest.mark.parametrize("field", ["size of the value", "size of the key", "page of the value"])
def test_a_value_outside_the_file_is_refused(folder: Path, field: str) -> None:
    page = pages(folder, LEAF)[-1]
    data = bytearray((folder / "data.mdb").read_bytes())
    node = page * PAGE + struct.unpack_from("<H", data, page * PAGE + 16)[0]
    (key_size,) = struct.unpack_from("<H", data, node + 6)
    offsets = {"size of the value": node + 2, "size of the key": node + 6, "page of the value": node + 8 + key_size}
    struct.pack_into("<H", data, offsets[field], 60_000)
    with pytest.raises(ValueError, match=f"^page {page} of its tree is damaged"):
        read_keys(BytesIO(bytes(data)), PAGE)


def test_a_page_that_leads_to_itself_is_named(folder: Path) -> None:
    with open(folder / "data.mdb", "r+b") as stream:
        data = stream.read()
        # Both meta pages: the tree's depth at byte 94, its root at byte 128.
        (root,) = {struct.unpack_from("<Q", data, page * PAGE + 128)[0] for page in (0, 1)} - {2**64 - 1}
        (node,) = struct.unpack_from("<H", data, root * PAGE + 16)
        stream.seek(root * PAGE + node)
        stream.write(struct.pack("<HHH", root, 0, 0))
        for page in (0, 1):
            stream.seek(page * PAGE + 94)
            stream.write(struct.pack("<H", 60_000))
        with pytest.raises(ValueError, match=f"page {root} of its tree is damaged: it comes twice"):
            read_keys(stream, PAGE)


def test_lmdbs_of_every_size_are_whole(tmp_path: Path) -> None:
    counts = [0, 1, 2, 150, 20_000]
    for count in counts:
        path = tmp_path / str(count)
        with lmdb.open(str(path), map_size=1 << 28) as env:
            for start in range(0, count, 7_000):
                with env.begin(write=True) as txn:
                    for number in range(start, min(count, start + 7_000)):
                        txn.put(b"%07d" % number, bytes(number % 5000))
            page_size = env.stat()["psize"]
        with open(path / "data.mdb", "rb") as stream:
            assert read_keys(stream, page_size) == [b"%07d" % number for number in range(count)]


def test_a_page_that_is_damaged_after_the_listing_fails_its_images_alone(folder: Path) -> None:
    catalog = Catalog()
    list_imports([str(folder)], catalog)
    flip(folder, pages(folder, OVERFLOW)[7], 0, PAGE)
    opened: dict[str, Source] = {}
    failures = []
    for ref in catalog.refs():
        try:
            assert_same(read_imported_record(ref, opened), make_record(ref.img_id, 3, 512))
        except ImageFailure as failure:
            failures.append(failure)
    assert len(failures) == 1
    assert failures[0].stage == "import" and failures[0].reason.startswith(f"{folder}, key b'")
    assert "cannot be read" in failures[0].reason
