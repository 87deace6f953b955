"""gs:// whose replies are lost, whose requests are torn, or which lacks what was asked for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from beam_pipeline import output_lock
from beam_pipeline.output_lock import LOCK, lock_output
from beam_pipeline.pipeline import main
from benchmarks.support.faulty_storage import (
    CUT_REPLY,
    TOO_MANY,
    TORN_REQUEST,
    UNAVAILABLE,
    UNAVAILABLE_PARTS,
    FaultyStorage,
)
from tests.conftest import TINY_WEIGHTS, write_photo
from tests.samples.buckets import download, upload
from transforms import files

ANY_REQUEST = (TOO_MANY, UNAVAILABLE, CUT_REPLY, TORN_REQUEST)


@pytest.mark.parametrize("fault", ANY_REQUEST)
def test_a_fault_while_a_lease_is_taken_is_overcome(fault: str, storage: FaultyStorage, bucket: str) -> None:
    for position in range(3):
        storage.script = [""] * position + [fault]
        with lock_output(f"{bucket}/out"):
            deadline = time.monotonic() + 30
            while storage.script:  # the client looks the bucket up in a thread of its own
                assert time.monotonic() < deadline, "the fault was not met"
                time.sleep(0.01)
            with pytest.raises(ValueError, match="another run is writing"), lock_output(f"{bucket}/out"):
                pass
        assert download(f"{bucket}/out") == {}


def test_a_renewal_whose_reply_is_lost_keeps_the_lease(
    storage: FaultyStorage, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_lock, "_HEARTBEAT_SECONDS", 0.05)
    with lock_output(f"{bucket}/out"):
        storage.script = [CUT_REPLY, "", "", CUT_REPLY]
        before = files.read_bytes(f"{bucket}/out/{LOCK}")
        deadline = time.monotonic() + 30
        while storage.script or files.read_bytes(f"{bucket}/out/{LOCK}") == before:
            assert time.monotonic() < deadline, "the lease was not renewed"
            time.sleep(0.05)
    assert download(f"{bucket}/out") == {}


@pytest.mark.parametrize("fault", ANY_REQUEST)
def test_faults_while_a_file_is_published_leave_it_whole(fault: str, storage: FaultyStorage, bucket: str) -> None:
    part = bytes(range(256)) * (1 << 16)  # an upload is sent in parts of 16 MiB
    storage.script = [fault, ""] * 5
    files.publish_bytes(f"{bucket}/out/file", [part, b"end"])
    assert storage.script == [] and storage.met[fault] == 5
    storage.script = [fault, ""] * 2
    assert files.read_bytes(f"{bucket}/out/file") == part + b"end"
    assert storage.script == [] and list(files.list_folder(f"{bucket}/out")) == ["file"]


def test_a_batch_whose_requests_are_refused_one_by_one_is_repeated(storage: FaultyStorage, bucket: str) -> None:
    storage.script = ["", "", UNAVAILABLE_PARTS, UNAVAILABLE_PARTS, "", UNAVAILABLE_PARTS]
    files.publish_bytes(f"{bucket}/out/file", [b"content"])
    assert storage.script == [] and storage.met[UNAVAILABLE_PARTS] == 3
    assert download(f"{bucket}/out") == {"file": b"content"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights", "gs://bucket/none"], "--weights gs://bucket/none: expected a readable file, got: No such file"),
        (["--captions", "gs://other/none"], "--captions gs://other/none: expected a readable file, got: No such file"),
        (["--images", "gs://bucket/none.txt"], "--images gs://bucket/none.txt: expected a UTF-8 text file of URIs"),
        (["--images", "gs://bucket/none.zip"], "gs://bucket/none.zip: expected a zip archive, got: No such file"),
        (["--output", "gs://other/out"], "--output gs://other/out: expected a bucket to write to, got: No such file"),
    ],
)
def test_what_a_bucket_lacks_is_wrong_use(
    flags: list[str], message: str, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photo(tmp_path / "photos" / "x.png", 1)
    upload(tmp_path / "photos" / "x.png", f"{bucket}/photos/x.png")
    all_flags = {"--images": f"{bucket}/photos", "--weights": str(TINY_WEIGHTS), "--output": str(tmp_path / "out")}
    all_flags |= dict([flags])
    assert main([word for flag in all_flags.items() for word in flag]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"beam_pipeline: {message}") and error.count("\n") == 1
