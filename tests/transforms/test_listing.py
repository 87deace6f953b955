"""Patterns, folders, list files and corpora become lists of images."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.samples.listing import listed, touch, uris
from tests.samples.plans import catalog_of
from transforms.listing import corpus_folders

NAMES = [
    "a b.jpg",
    "50%.jpg",
    "[1].jpg",
    "x*y.jpg",
    "who?.jpg",
    "käse.jpg",
    "😀.jpg",
    "#1.jpg",
    "%41.jpg",
    "line\u2028.jpg",
]


def test_a_folders_images_are_sorted_and_its_other_files_noted(here: Path) -> None:
    touch("photos/b.jpg", "photos/a.JPG", "photos/c.jpeg", "photos/d.PnG", "photos/notes.doc", "photos/.hidden.jpg")
    touch("photos/deeper/e.jpg", "photos/f.webp", "photos/g.TIFF", "photos/noext")
    listing = listed(["photos"])
    names = ["a.JPG", "b.jpg", "c.jpeg", "d.PnG", "f.webp", "g.TIFF"]
    assert [ref.uri for ref in listing.refs] == [f"photos/{name}" for name in names]
    assert listing.refs[0] == listing.refs[0]._replace(set_name="photos", img_id="a", uri="photos/a.JPG", size=3)
    assert listing.notes == (
        "photos: 3 files are no images by their extension, .hidden.jpg for one",
        "photos: folders in it that are not read: 1, photos/deeper for one; --recursive reads them",
    )


@pytest.mark.parametrize("source", ["photos", "photos/", "./photos", "{here}/photos", "../here/photos"])
def test_the_set_is_the_folders_name_in_every_spelling(here: Path, source: str) -> None:
    touch("photos/a.jpg")
    (ref,) = listed([source.format(here=here)]).refs
    assert (ref.set_name, ref.img_id, ref.size) == ("photos", "a", 3)
    assert os.path.samefile(ref.uri, "photos/a.jpg")


def test_the_working_directory_is_a_set(here: Path) -> None:
    touch("a.jpg", "b.jpg")
    for sources in (["."], ["a.jpg", "b.jpg"], ["*.jpg"]):
        assert [(ref.set_name, ref.img_id) for ref in listed(sources).refs] == [("here", "a"), ("here", "b")]


@pytest.mark.parametrize("name", NAMES)
def test_file_names_that_look_like_patterns_are_taken_literally(here: Path, name: str) -> None:
    touch(f"photos/{name}", "photos/1.jpg", "photos/xzy.jpg", "photos/whom.jpg")
    assert uris(f"photos/{name}") == [f"photos/{name}"]
    assert f"photos/{name}" in uris("photos")
    Path("list.txt").write_text(f"photos/{name}\n")
    (ref,) = listed(["list.txt"]).refs
    assert (ref.uri, ref.img_id, ref.size) == (f"photos/{name}", name.removesuffix(".jpg"), 3)


@pytest.mark.parametrize("folder", ["[a]", "p*", "a b", "käse", "100%"])
def test_folders_that_look_like_patterns_are_taken_literally(here: Path, folder: str) -> None:
    touch(f"{folder}/x.jpg", "a/stranger.jpg", "pq/stranger.jpg")
    assert [(ref.set_name, ref.uri) for ref in listed([folder]).refs] == [(folder, f"{folder}/x.jpg")]
    assert uris(f"{folder}/x.jpg") == [f"{folder}/x.jpg"]


def test_patterns_are_expanded_in_order_across_folders(here: Path) -> None:
    touch("photos/b.jpg", "photos/a.jpg", "photos/c.png", "more/a/z.jpg", "photos/.hidden.jpg")
    assert uris("photos/*.jpg") == ["photos/a.jpg", "photos/b.jpg"]
    assert uris("**/*.jpg") == ["more/a/z.jpg", "photos/a.jpg", "photos/b.jpg"]
    assert uris("photos/[bc].*", "photos/a.jpg") == ["photos/b.jpg", "photos/c.png", "photos/a.jpg"]


@pytest.mark.parametrize("source", ["*.jpg", "photos/*.gif", "empty", "[", "photos/[!a]*"])
def test_a_source_without_images_is_an_error(here: Path, source: str) -> None:
    touch("photos/a.jpg")
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=r"expected images, found none; check the path or the pattern"):
        listed(["photos", source])


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("photos/gone.jpg", "found nothing; check the path"),
        ("fotos", "found nothing; did you mean photos?"),
        ("photos/2014/a1.jpg", "found nothing; did you mean photos/2014x?"),
        ("fotos/2014x/a.jpg", "found nothing; did you mean photos?"),
        ("{here}/photo", "found nothing; did you mean {here}/photos?"),
    ],
)
def test_a_source_that_is_not_there_is_refused_with_the_nearest_name(here: Path, source: str, hint: str) -> None:
    touch("photos/2014x/a1.jpg")
    source, hint = source.format(here=here), hint.format(here=here)
    with pytest.raises(ValueError) as raised:
        listed([source])
    assert str(raised.value) == (
        f"--images {source}: expected an image, a folder, a zip archive, a .txt list or a pattern, {hint}"
    )


def test_a_folder_of_folders_alone_says_how_to_search_them(here: Path) -> None:
    touch("photos/2014/a.jpg", "photos/2015/b.jpg")
    with pytest.raises(ValueError) as raised:
        listed(["photos"])
    assert re.sub("201[45]", "201_", str(raised.value)) == (
        "--images photos: expected images, found none but in folders, photos/201_ for one: folders are not searched "
        "recursively: give 'photos/**/*.jpg' in quotes, or --recursive"
    )


def test_a_folder_without_images_says_what_it_holds(here: Path) -> None:
    touch("photos/a.doc", "photos/b.doc")
    with pytest.raises(ValueError, match=r"found none: its 2 files have no image's extension \(\.jpg .*a\.doc for one"):
        listed(["photos"])


def test_folders_are_searched_recursively_where_that_is_asked_for(here: Path) -> None:
    touch("photos/b.jpg", "photos/z/c.png", "photos/a/x/d.jpg", "photos/a/note.doc", "photos/.git/e.jpg")
    listing = listed(["photos/"], recursive=True)
    assert [(ref.set_name, ref.uri) for ref in listing.refs] == [
        ("photos", "photos/b.jpg"),
        ("x", "photos/a/x/d.jpg"),
        ("z", "photos/z/c.png"),
    ]
    assert listing.notes == ("photos/: 1 files are no images by their extension, note.doc for one",)


def test_what_a_run_wrote_into_the_folder_of_its_images_is_no_image(here: Path) -> None:
    touch("photos/a.jpg", "photos/out/plan.jsonl", "photos/out/tfrecord/x", "photos/out/boxes.jpg", "photos/new/b.jpg")
    for sources, recursive in ((["photos"], True), (["photos/**/*.jpg"], False)):
        listing = listed(sources, recursive, output="photos/new")
        assert [ref.uri for ref in listing.refs] == ["photos/a.jpg"]
    assert listing.notes == ("photos/**/*.jpg: 2 images that a run wrote are left out, photos/new/b.jpg for one",)
    assert [ref.uri for ref in listed(["photos/out/boxes.jpg"], output="photos/out").refs] == ["photos/out/boxes.jpg"]


@pytest.mark.parametrize("source", ["photos", "photos/*.jpg", "photos/**/*.jpg", "./photos/"])
def test_an_output_that_is_the_folder_of_the_images_is_refused(here: Path, source: str) -> None:
    touch("photos/a.jpg")
    with pytest.raises(ValueError) as raised:
        listed([source], output="photos")
    assert str(raised.value) == (
        f"--output photos: expected another folder than that of the images, {source}; "
        "write to a folder of its own, photos/features for one"
    )


@pytest.mark.parametrize("address", ["http://example.org/a.jpg", "https://example.org/a.jpg?..."])
def test_a_web_address_is_refused_with_the_reason(here: Path, address: str) -> None:
    Path("list.txt").write_text(f"# from the web\n{address.replace('...', 'key=secret')}\n")
    for source, where in (
        (address.replace("...", "key=secret"), address),
        ("list.txt", f"list.txt, line 2: {address}"),
    ):
        with pytest.raises(ValueError) as raised:
            listed([source])
        assert str(raised.value).startswith(
            f"--images {where}: expected a local path or a bucket's; images are not fetched from web addresses, since "
            "one may answer with another image at the next run: download them first (wget "
        )


def test_a_repeated_uri_is_listed_once_with_a_note(here: Path) -> None:
    touch("photos/a.jpg", "photos/b.jpg")
    Path("list.txt").write_text("photos/a.jpg\nphotos/b.jpg\nphotos/a.jpg\nphotos/a.jpg\n")
    listing = listed(["list.txt", "photos"])
    assert [ref.uri for ref in listing.refs] == ["photos/a.jpg", "photos/b.jpg"]
    assert listing.notes == ("4 URIs are listed more than once and read once, photos/a.jpg for one",)


@pytest.mark.parametrize("second", ["./photos/a.jpg", "photos//a.jpg", "photos/./a.jpg", "{here}/photos/a.jpg"])
def test_two_spellings_of_one_path_are_one_image(here: Path, second: str) -> None:
    touch("photos/a.jpg")
    listing = listed(["photos/a.jpg", second.format(here=here)])
    assert [ref.uri for ref in listing.refs] == ["photos/a.jpg"]
    assert len(listing.notes) == 1


def test_a_path_through_a_link_keeps_its_own_identity(here: Path) -> None:
    touch("real/deep/x.jpg", "real/a.jpg", "a.jpg", size=5)
    touch("a.jpg", size=9)
    os.symlink("real/deep", "link")
    assert [ref.size for ref in listed(["link/../a.jpg", "a.jpg"]).refs] == [5, 9]


def test_links_are_listed_beside_their_targets(here: Path) -> None:
    touch("photos/a.jpg", "elsewhere/b.jpg", size=5)
    os.symlink("a.jpg", "photos/link.jpg")
    os.symlink("nowhere", "photos/dangling.jpg")
    os.symlink("../elsewhere", "photos/folder")
    assert [(ref.img_id, ref.size) for ref in listed(["photos"]).refs] == [("a", 5), ("dangling", -1), ("link", 5)]
    os.symlink("photos", "set_of_links")
    assert {ref.set_name for ref in listed(["set_of_links"]).refs} == {"set_of_links"}


def test_folders_and_special_files_named_like_images_are_listed(here: Path) -> None:
    touch("photos/a.jpg")
    Path("photos/folder.jpg").mkdir()
    os.mkfifo("photos/fifo.png")
    assert [(ref.img_id, ref.size) for ref in listed(["photos"]).refs] == [("a", 3), ("fifo", -1), ("folder", -1)]


def test_folders_of_one_name_are_one_set_whose_key_clashes_are_found(here: Path) -> None:
    touch("one/photos/a.jpg", "two/photos/b.jpg", "two/photos/a.png")
    refs = listed(["one/photos", "two/photos"]).refs
    assert {ref.set_name for ref in refs} == {"photos"}
    assert catalog_of(refs).find_clash() == (b"a", "one/photos/a.jpg", "two/photos/a.png", 1)


def test_ids_that_differ_by_leading_zeros_clash(here: Path) -> None:
    touch("photos/7.jpg", "photos/007.jpg", "photos/a_08.jpg", "photos/b_8.JPG", "photos/70.jpg")
    assert catalog_of(listed(["photos"]).refs).find_clash() == (b"7", "photos/007.jpg", "photos/7.jpg", 2)


def test_an_image_whose_name_no_record_can_have_is_a_failure(here: Path) -> None:
    touch("photos/a.jpg", "photos/keys.jpg")
    Path(os.fsdecode(b"photos/caf\xe9_12.jpg")).write_bytes(b"x")
    for source in ("photos", "photos/*.jpg"):
        listing = listed([source])
        assert [ref.img_id for ref in listing.refs] == ["a"]
        assert sorted((failure.uri, failure.stage) for failure in listing.failures) == [
            ("photos/caf\\udce9_12.jpg", "name"),
            ("photos/keys.jpg", "name"),
        ]
        reasons = " ".join(failure.reason for failure in listing.failures)
        assert "expected a path that is valid Unicode" in reasons and "which names the key list" in reasons
        assert any("2 images have names that cannot be used" in note for note in listing.notes)
    with pytest.raises(ValueError, match=r"none has a usable name.*which names the key list"):
        listed(["photos/keys.jpg"])


def test_a_loop_of_links_is_an_image_that_cannot_be_read(here: Path) -> None:
    touch("photos/a.jpg")
    Path("photos/b.jpg").symlink_to("b.jpg")
    assert [(ref.img_id, ref.size) for ref in listed(["photos"]).refs] == [("a", 3), ("b", -1)]


def test_a_folder_name_too_long_for_its_shards_names_is_an_error(here: Path) -> None:
    touch("p" * 160 + "/a.jpg", "p" * 161 + "/a.jpg")
    assert len(listed(["p" * 160]).refs) == 1
    with pytest.raises(ValueError, match="expected a folder name of at most 160 bytes"):
        listed(["p" * 161])


def test_an_ignored_name_that_is_not_unicode_is_escaped_in_the_note(here: Path) -> None:
    touch("photos/a.jpg")
    Path(os.fsdecode(b"photos/caf\xe9.doc")).write_bytes(b"x")
    (note,) = listed(["photos"]).notes
    assert note.encode().endswith(b"caf\\udce9.doc for one")


def test_a_folder_with_the_temporary_prefix_is_an_error(here: Path) -> None:
    touch(".tmp-photos/a.jpg")
    with pytest.raises(ValueError, match=r"images in \.tmp-photos/: expected another folder name"):
        listed([".tmp-photos"])


def test_an_unknown_file_system_is_an_error(here: Path) -> None:
    with pytest.raises(ValueError, match="Unable to get filesystem"):
        listed(["nosuch://bucket/folder"])


def test_a_corpus_may_lack_some_of_its_folders(here: Path) -> None:
    with pytest.raises(ValueError, match=r"--corpus coco: expected at least one of the folders coco/images/train2014"):
        corpus_folders("coco")
    touch("coco/images/val2014/COCO_val2014_000000000042.jpg", "coco/images/other/x.jpg", "coco/images/test2015")
    assert corpus_folders("coco") == ["coco/images/val2014"]
    touch("coco/images/train2014/COCO_train2014_000000000009.jpg")
    assert corpus_folders("coco/") == ["coco/images/train2014", "coco/images/val2014"]
    refs = listed(corpus_folders("coco")).refs
    assert [(ref.set_name, ref.img_id) for ref in refs] == [
        ("train2014", "COCO_train2014_000000000009"),
        ("val2014", "COCO_val2014_000000000042"),
    ]
