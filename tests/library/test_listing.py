"""Lists of files: as sha256sum checks them, and refused where they are none."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from region_features.formats.listing import decode_listing, encode_listing

NAMES = ("a.npz", "b c.npz", "ünï.npz", "back\\slash", "line\nbreak", "\\n", "-x", "..a")
ONE = "ab" * 32


def test_sha256sum_checks_every_name(tmp_path: Path) -> None:
    folder = tmp_path / "pho\\tos"
    folder.mkdir()
    digests = {}
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
        digests[name] = hashlib.sha256(name.encode()).hexdigest()
    data = encode_listing(folder.name, digests)
    (tmp_path / "list").write_bytes(data)
    done = subprocess.run(["sha256sum", "--check", "--strict", "list"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK") == len(NAMES)
    assert decode_listing(data, folder.name, "list") == digests
    (folder / "a.npz").write_bytes(b"changed")
    assert subprocess.run(["sha256sum", "--check", "list"], cwd=tmp_path, capture_output=True).returncode == 1


def test_an_empty_folder_has_an_empty_list() -> None:
    assert encode_listing("photos", {}) == b""
    assert decode_listing(b"", "photos", "list") == {}


@pytest.mark.parametrize(
    "line",
    [
        f"{ONE}  photos/../a",
        f"{ONE}  photos/..",
        f"{ONE}  photos/.",
        f"{ONE}  photos/",
        f"{ONE}  photos",
        f"{ONE}  photos/a/b",
        f"{ONE}  other/a",
        f"{ONE}  /photos/a",
        f"\\{ONE}  photos/a\\n/b",
        f"{ONE}  photos/a\0",
        f"{ONE} photos/a",
        f"{ONE[1:]}  photos/a",
        "",
    ],
)
def test_a_list_that_leads_out_of_its_folder_is_refused(line: str) -> None:
    data = f"{ONE}  photos/ok\n{line}\n".encode()
    with pytest.raises(
        ValueError, match=r"^out/photos.sha256, line 2: expected a SHA-256 and a file directly in photos"
    ):
        decode_listing(data, "photos", "out/photos.sha256")


@pytest.mark.parametrize(
    ("data", "message"), [(f"{ONE}  photos/a".encode(), "last one is cut off"), (b"\xff\n", "expected UTF-8")]
)
def test_a_torn_list_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_listing(data, "photos", "list")
