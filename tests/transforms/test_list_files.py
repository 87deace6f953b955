"""List files: the images that their lines name, and the files that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from region_features.records.plan import ImageRef
from tests.samples.listing import listed, touch, uris


def test_a_list_file_may_have_a_byte_order_mark_and_blank_lines(here: Path) -> None:
    touch("photos/a.jpg", "photos/b c.jpg", size=7)
    Path("list.TXT").write_bytes("\ufeffphotos/a.jpg\r\n\r\n   \r\n  photos/b c.jpg  \r\nphotos/gone.jpg".encode())
    assert [(ref.uri, ref.size) for ref in listed(["list.TXT"]).refs] == [
        ("photos/a.jpg", 7),
        ("photos/b c.jpg", 7),
        ("photos/gone.jpg", -1),
    ]


def test_a_list_file_may_have_comments_and_images_whose_names_begin_like_one(here: Path) -> None:
    touch("photos/a.jpg", "#1.jpg")
    Path("list.txt").write_text("# photos of 2014\n#photos/b.jpg\n\nphotos/a.jpg\n#1.jpg\n./#2.jpg\n")
    assert uris("list.txt") == ["photos/a.jpg", "#1.jpg", "./#2.jpg"]


def test_a_list_of_which_no_image_is_there_is_refused_with_the_folder_that_its_paths_start_from(here: Path) -> None:
    Path("list.txt").write_text("2014/a.jpg\n2014/b.jpg\n")
    with pytest.raises(ValueError) as raised:
        listed(["list.txt"])
    assert str(raised.value) == (
        "--images list.txt: expected the paths of images, a line each, but none of 2 is there, 2014/a.jpg for one; "
        f"paths in it start from the folder where the program is started, {here}"
    )


def test_an_image_in_a_list_file_needs_no_extension(here: Path) -> None:
    touch("photos/000123", "photos/v1.2")
    Path("list.txt").write_text("photos/000123\nphotos/v1.2\nphotos/.jpg\n")
    assert [ref.img_id for ref in listed(["list.txt"]).refs] == ["000123", "v1", ".jpg"]


@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_an_empty_list_file_is_an_error(here: Path, content: bytes) -> None:
    Path("list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"list\.txt: expected images, found none"):
        listed(["list.txt"])


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\xff\xfe", "photos/é.jpg\n".encode("latin-1"), b"\xff\xfea\0"])
def test_a_list_file_that_is_not_utf8_is_an_error(here: Path, content: bytes) -> None:
    Path("list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"--images list\.txt: expected a UTF-8 text file of URIs, got: "):
        listed(["list.txt"])


def test_a_list_file_that_cannot_be_read_is_an_error(here: Path) -> None:
    os.mkfifo("fifo.txt")
    Path("folder.txt").mkdir()
    for source, words in (("gone.txt", "No such file"), ("fifo.txt", "special file"), ("folder.txt", "a directory")):
        with pytest.raises(ValueError, match=f"--images {source}: expected a UTF-8 text file.*{words}"):
            listed([source])


def test_a_line_with_a_nul_byte_is_a_missing_image(here: Path) -> None:
    touch("photos/b.jpg")
    Path("list.txt").write_bytes(b"photos/a\0b.jpg\nphotos/b.jpg\n")
    assert [ref.size for ref in listed(["list.txt"]).refs] == [-1, 3]


def test_a_missing_image_of_a_list_is_listed(here: Path) -> None:
    touch("photos/a.jpg")
    Path("list.txt").write_text("photos/gone.jpg\nphotos/a.jpg")
    assert listed(["list.txt"]).refs[0] == ImageRef("photos", "gone", "photos/gone.jpg", -1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"photos/a.jpg\n" + bytes(9000), r"got 9000 bytes in line 2: b'\x00"),
        (b"photos/caf\xe9.jpg\n", "codec can't decode"),
    ],
)
def test_a_list_file_that_is_no_list_is_refused_in_one_short_line(here: Path, content: bytes, words: str) -> None:
    Path("list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"--images list\.txt: expected a UTF-8 text file of URIs") as raised:
        listed(["list.txt"])
    assert words in str(raised.value) and len(str(raised.value)) < 300
