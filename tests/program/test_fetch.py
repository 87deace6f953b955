"""An output arrives on a training machine: whole, checked, resumed, and no file of another version with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from beam_pipeline.fetch import transfer
from beam_pipeline.fetch.command import FETCHED, main
from beam_pipeline.fetch.selection import select_files
from beam_pipeline.verify.command import verify
from tests.conftest import tree_bytes, write_photo
from tests.samples.buckets import upload
from tests.samples.versions import latest_folder, rebuild
from transforms import files
from transforms.manifest import MANIFEST, MANIFEST_DIGEST

LMDB = "resnet101_faster_rcnn_genome_imgfeats/volta/photos_feat.lmdb/data.mdb"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a corpus and its first version; each test works on a copy."""
    folder = tmp_path_factory.mktemp("built")
    for number in range(9):
        write_photo(folder / "photos" / f"photo_{number}.png", number)
    assert rebuild(folder / "root", "--images", folder / "photos", "--num_shards", 3, "--outputs", "tfrecord,lmdb") == 0
    return folder


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built / "root", tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the names of the files that are opened below `versions`."""
    names: list[str] = []
    open_stream = files.open_stream

    def open_and_list(path: str) -> BinaryIO:
        if "/versions/" in path:
            names.append(os.path.basename(path))
        return open_stream(path)

    monkeypatch.setattr(files, "open_stream", open_and_list)
    return names


def fetched_tree(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree_bytes(folder).items() if name != FETCHED}


def test_the_latest_version_arrives_whole_and_is_not_fetched_twice(
    root: Path, tmp_path: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, version = tmp_path / "new" / "out", latest_folder(root)
    assert main([str(root), str(out)]) == 0
    assert fetched_tree(out) == tree_bytes(version)
    assert verify(str(out)).problems == ()
    assert f"{out}: version {version.name}: 10 files fetched, " in capsys.readouterr().out
    opened.clear()
    assert main([f"{root}/", str(out)]) == 0
    assert f"{out}: version {version.name}: 0 files fetched, 0 bytes; 10 files were there" in capsys.readouterr().out
    assert set(opened) <= {MANIFEST, MANIFEST_DIGEST}
    with open(out / LMDB, "r+b") as stream:
        stream.seek(100)
        stream.write(b"damage")
    (out / "plan.jsonl").unlink()
    assert main([str(root), str(out)]) == 0
    assert "2 files fetched" in capsys.readouterr().out
    assert fetched_tree(out) == tree_bytes(version)


def test_a_newer_version_replaces_what_changed_and_deletes_what_is_gone(
    built: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, photos = tmp_path / "out", tmp_path / "photos"
    shutil.copytree(built / "photos", photos)
    flags = ["--outputs", "tfrecord,lmdb"]
    assert main([str(root), str(out)]) == 0
    (out / "tfrecord" / "mine.txt").write_text("not of a fetch")
    assert rebuild(root, "--images", photos, "--num_shards", 2, *flags) == 0
    capsys.readouterr()
    assert main([str(root), str(out)]) == 0
    assert "6 files of an earlier fetch deleted" in capsys.readouterr().out
    (out / "tfrecord" / "mine.txt").unlink()
    assert fetched_tree(out) == tree_bytes(latest_folder(root))
    assert main([str(root), str(out), "--outputs", "lmdb"]) == 0
    assert fetched_tree(out) == tree_bytes(latest_folder(root)), "what is of this version stays"
    write_photo(photos / "photo_0.png", 77)
    assert rebuild(root, "--images", photos, "--num_shards", 2, *flags) == 0
    assert main([str(root), str(out), "--outputs", "lmdb"]) == 0
    latest = tree_bytes(latest_folder(root))
    for name, data in fetched_tree(out).items():
        assert data == latest[name], f"{name} is of the earlier version"
    assert LMDB in fetched_tree(out) and "plan.jsonl" not in fetched_tree(out)


def test_some_outputs_alone(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = latest_folder(root)
    assert main([str(version), str(tmp_path / "lmdb"), "--outputs", "lmdb"]) == 0
    assert sorted(fetched_tree(tmp_path / "lmdb")) == sorted(
        [MANIFEST, MANIFEST_DIGEST, LMDB, LMDB.replace("data.mdb", "source.json")]
    )
    assert main([str(version), str(tmp_path / "shards"), "--outputs", "tfrecord"]) == 0
    shards = fetched_tree(tmp_path / "shards")
    assert {"plan.jsonl", "failures.jsonl"} < shards.keys()
    assert len([name for name in shards if name.startswith("tfrecord/")]) == 6
    assert main([str(version), str(tmp_path / "x"), "--outputs", "lmbd"]) == 2
    assert "expected some of tfrecord,lmdb, which are there, got 'lmbd'; did you mean lmdb?" in capsys.readouterr().err
    assert main([str(version), str(tmp_path / "x"), "--outputs", "annotations"]) == 2
    assert not (tmp_path / "x").exists()


def test_a_cut_fetch_goes_on_with_the_pieces_that_are_missing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, version = tmp_path / "out", latest_folder(root)
    monkeypatch.setattr(transfer, "PIECE_BYTES", 1000)
    monkeypatch.setattr(transfer, "_CHUNK", 300)
    monkeypatch.setattr(transfer, "_THREADS", 1)
    pieces: list[int] = []
    write = transfer._PartFile.write

    def write_some(part: Any, piece: transfer.Piece, chunks: Iterator[bytes]) -> bool:
        if piece.file.path == LMDB:
            if limit and len(pieces) == limit:
                next(iter(chunks))
                raise ConnectionError("the connection is cut")
            pieces.append(piece.number)
        return write(part, piece, chunks)

    monkeypatch.setattr(transfer._PartFile, "write", write_some)
    limit = 5
    assert main([str(root), str(out)]) == 1
    error = capsys.readouterr().err
    assert error == "fetch: the connection is cut; run the same command again to go on\n"
    assert not (out / LMDB).exists() and not (out / MANIFEST).exists() and pieces == [0, 1, 2, 3, 4]
    limit = 0
    assert main([str(root), str(out)]) == 0
    assert pieces == list(range(-(-len((out / LMDB).read_bytes()) // 1000)))
    assert fetched_tree(out) == tree_bytes(version)


def test_a_file_whose_last_piece_had_arrived_is_published(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 1000)
    version = latest_folder(root)
    (file,) = [file for file in select_files(json.loads((version / MANIFEST).read_text()), None) if file.path == LMDB]
    part = transfer._PartFile(str(tmp_path / "out"), file)
    data = (version / LMDB).read_bytes()
    for piece in part.pieces:
        part.write(piece, [data[piece.offset : piece.offset + piece.length]])
    transfer.fetch_files("nowhere", str(tmp_path / "out"), [file], lambda done, total: None)
    assert tree_bytes(tmp_path / "out") == {LMDB: data}


def test_a_damaged_file_does_not_arrive(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = latest_folder(root) / LMDB
    with open(damaged, "r+b") as stream:
        stream.seek(100)
        stream.write(b"damage")
    assert main([str(root), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert f"fetch: {LMDB}: expected the SHA-256 that manifest.json lists, got another" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / LMDB).exists() and not (tmp_path / "out" / MANIFEST).exists()
    damaged.write_bytes(b"short")
    assert main([str(root), str(tmp_path / "out")]) == 1
    assert "got fewer; run the same command again" in capsys.readouterr().err


def test_a_version_that_is_deleted_meanwhile_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = latest_folder(root)
    open_stream = files.open_stream

    def delete_and_open(path: str) -> BinaryIO:
        if path.endswith("data.mdb"):
            (version / MANIFEST).unlink(missing_ok=True)  # first, as a rebuild does
            shutil.rmtree(version, ignore_errors=True)
        return open_stream(path)

    monkeypatch.setattr(files, "open_stream", delete_and_open)
    assert main([str(root), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error == f"fetch: {version} was deleted meanwhile; run the same command again\n"


def test_a_version_is_leased_while_it_is_fetched(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[str] = []

    def list_leases(*_: object) -> None:
        held.extend(path.name.partition(".")[0] for path in (root / "leases").iterdir())

    monkeypatch.setattr("beam_pipeline.fetch.command.fetch_files", list_leases)
    monkeypatch.setattr("beam_pipeline.fetch.command.find_missing", lambda *_: [])
    assert main([str(root), str(tmp_path / "out")]) == 0
    assert held == [latest_folder(root).name]
    assert list((root / "leases").iterdir()) == []


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a//b", "a/../../x", ".tmp-lock", "a\\b", "a/./b", ""])
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    manifest = {"files": {"tfrecord": {}}, "digests": {path: {"bytes": 1, "sha256": "0" * 64}}}
    with pytest.raises(ValueError, match=r"manifest.json: expected paths of files within the output, got "):
        select_files(manifest, None)


@pytest.mark.parametrize("row", [None, {"bytes": -1, "sha256": "0" * 64}, {"bytes": True}, {"bytes": 1, "sha256": "x"}])
def test_a_file_without_a_digest_is_refused(row: object) -> None:
    with pytest.raises(ValueError, match=r"manifest.json, a: expected its bytes and SHA-256, got "):
        select_files({"files": {"tfrecord": {}}, "digests": {"a": row}}, None)


def test_a_folder_that_is_not_of_a_fetch_is_left_alone(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    shutil.copytree(latest_folder(root), own)
    before = tree_bytes(own)
    assert main([str(root), str(own)]) == 2
    assert f"{own}: holds the manifest.json of a run, and no fetch wrote it" in capsys.readouterr().err
    assert tree_bytes(own) == before
    (own / FETCHED).write_text(json.dumps({"paths": ["../photo"]}))
    (tmp_path / "photo").write_text("precious")
    assert main([str(root), str(own)]) == 2
    assert f"{own}/{FETCHED}: expected what a fetch wrote" in capsys.readouterr().err
    assert (tmp_path / "photo").exists()


def test_what_is_no_output_is_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, version = str(tmp_path / "out"), latest_folder(root)
    assert main([str(tmp_path / "none"), out]) == 2
    assert "expected latest.json of a rebuild, or manifest.json of a run that has ended" in capsys.readouterr().err
    assert main([str(root), "gs://bucket/out"]) == 2
    assert (
        capsys.readouterr().err
        == "fetch: gs://bucket/out: expected a local folder, got one on remote storage; name a local one\n"
    )
    (root / "latest.json").unlink()
    manifest = json.loads((version / MANIFEST).read_text())
    (version / MANIFEST).write_text(json.dumps(manifest))
    assert main([str(version), out]) == 1
    assert f"expected the SHA-256 that {MANIFEST_DIGEST} says" in capsys.readouterr().err
    failed = json.dumps(manifest | {"status": "failed", "reason": "too many"}).encode()
    (version / MANIFEST).write_bytes(failed)
    digest = files.digest_of_bytes(failed)["sha256"]
    (version / MANIFEST_DIGEST).write_text(f"{digest}  {MANIFEST}\n")
    assert main([str(version), out]) == 2
    assert "expected a run that went well, got one that failed: too many" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_version_arrives_from_a_bucket(
    bucket: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version, out = latest_folder(root), tmp_path / "out"
    for name in tree_bytes(root):
        upload(root / name, f"{bucket}/corpus/{name}")
    monkeypatch.setattr(transfer, "PIECE_BYTES", 5000)
    assert main([f"{bucket}/corpus", str(out)]) == 0
    assert fetched_tree(out) == tree_bytes(version)
    (out / LMDB).unlink()
    files.delete_files([f"{bucket}/corpus/versions/{version.name}/{LMDB}"])
    assert main([f"{bucket}/corpus", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fetch: ") and error.endswith("; run the same command again to go on\n")
    files.delete_files([f"{bucket}/corpus/versions/{version.name}/{MANIFEST}"])
    assert main([f"{bucket}/corpus", str(out)]) == 1
    assert "named by latest.json, and cannot be read" in capsys.readouterr().err
