"""The images of a run and what is said of them, in a temporary SQLite database: memory stays flat."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from region_features.planning.clash import Clash
from region_features.records.coco import lmdb_name, set_of_id
from region_features.records.given_boxes import GivenBoxes
from region_features.records.item import ImageCaptions
from region_features.records.key import lmdb_key
from region_features.records.plan import ImageRef

CAPTIONS, BOXES = "captions", "boxes"
_CACHE_KIB = 64 << 10
_ROWS_AT_ONCE = 1000
_SCHEMA = """
    CREATE TABLE images (
        place TEXT UNIQUE, lmdb TEXT, key BLOB, set_name TEXT, img_id TEXT, uri TEXT, size INTEGER, version TEXT
    );
    CREATE TABLE captions (img_id TEXT, digest TEXT, row TEXT);
    CREATE TABLE boxes (img_id TEXT, digest TEXT, row TEXT);
    CREATE TABLE earlier (
        set_name TEXT, img_id TEXT, uri TEXT, size INTEGER, version TEXT, captions TEXT, boxes TEXT,
        shard INTEGER, position INTEGER, sha256 TEXT
    );
"""
# Made once the rows are there, which takes less than to keep an index while they come; with the digests, so that the
# long rows are read only where they are asked for.
_INDICES = """
    CREATE INDEX IF NOT EXISTS in_order ON images (set_name, key);
    CREATE INDEX IF NOT EXISTS images_by_id ON images (img_id);
    CREATE INDEX IF NOT EXISTS captions_by_id ON captions (img_id, digest);
    CREATE INDEX IF NOT EXISTS boxes_by_id ON boxes (img_id, digest);
    CREATE INDEX IF NOT EXISTS earlier_by_id ON earlier (set_name, img_id);
"""
_ROW = "i.set_name, i.img_id, i.uri, i.size, i.version, ifnull(c.digest, ''), ifnull(b.digest, '')"
_TOLD = f"{_ROW}, c.row, b.row"


class CaptionsMatch(NamedTuple):
    """How many images and rows of captions there are, and how many images have captions."""

    images: int
    rows: int
    matched: int


class EarlierImage(NamedTuple):
    """An image of an earlier run, and where its record is: number of the shard, place in it, SHA-256 of the image."""

    ref: ImageRef
    shard: int
    position: int
    sha256: str


class CatalogRow(NamedTuple):
    """An image, with what an earlier run has of it.

    Attributes:
        captions: JSON of coco_id, split, sentences and their ids; None if it has none.
        boxes: JSON of the given boxes and their problem; None if none are given.
    """

    ref: ImageRef
    captions: str | None
    boxes: str | None
    earlier: EarlierImage | None


def _key_or_none(img_id: str) -> bytes | None:
    try:
        return lmdb_key(img_id)
    except ValueError:
        return None


class Catalog:
    """Images with their captions and given boxes, to be added first and asked for then.

    The database is a file without a name in the folder for temporary files (`TMPDIR`), about 1 kB an image.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._indexed = False
        self._pending: dict[str, list[tuple[str, str, str]]] = {CAPTIONS: [], BOXES: []}
        self._db.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{_CACHE_KIB}; {_SCHEMA} BEGIN;"
        )

    def add_image(self, place: str, ref: ImageRef) -> bool:
        """Add an image; return False for one whose place is there already.

        Args:
            place: what two spellings of one path have in common.
            ref: the image.

        Raises:
            ValueError: its id cannot be an LMDB key; names the URI.
        """
        try:
            key = ref.key
        except ValueError as error:
            raise ValueError(f"{ref.uri}: {error}") from error
        row = (place, lmdb_name(ref.set_name), key, ref.set_name, ref.img_id, ref.uri, ref.size, ref.version)
        return self._db.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row).rowcount > 0

    def image_at(self, place: str) -> ImageRef:
        """Return the image that was added with this place."""
        columns = "set_name, img_id, uri, size, version"
        return ImageRef(*self._db.execute(f"SELECT {columns} FROM images WHERE place = ?", (place,)).fetchone())

    def replace_image(self, place: str, ref: ImageRef) -> None:
        """Put another file of the same image in place of the one that was added with this place."""
        row = (ref.uri, ref.size, ref.version, place)
        self._db.execute("UPDATE images SET uri = ?, size = ?, version = ? WHERE place = ?", row)

    def name_after_captions(self) -> None:
        """Give images whose id is only a number the id that the captions have for it, and the set in that id.

        An id of captions has a number where its LMDB key is one; numbers that several of them have are left alone.
        """
        self._flush()
        for name, arguments, function in (
            ("key_of", 1, _key_or_none),
            ("set_of", 1, set_of_id),
            ("lmdb_of", 1, lmdb_name),
        ):
            self._db.create_function(name, arguments, function, deterministic=True)
        self._db.executescript(
            f"CREATE TABLE names AS SELECT key_of(img_id) AS key, min(img_id) AS img_id FROM {CAPTIONS} GROUP BY 1 "
            "HAVING count(*) = 1; CREATE INDEX names_by_key ON names (key);"
            "UPDATE images SET img_id = n.img_id, set_name = ifnull(set_of(n.img_id), set_name), "
            "lmdb = lmdb_of(ifnull(set_of(n.img_id), set_name)) FROM names n "
            "WHERE n.key = images.key AND images.img_id NOT GLOB '*[^0-9]*'; DROP TABLE names;"
        )

    def give_sizes(
        self, sizes: Iterable[tuple[str, int, int]], lacking: Sequence[str], sized: Callable[[str, int, int], str]
    ) -> list[ImageRef]:
        """Put the images' sizes into the URIs of records whose files do not know them.

        Args:
            sizes: img_id, height and width in pixels.
            lacking: paths of these files, with which the URIs begin.
            sized: (URI, height, width) -> the URI with the size.

        Returns:
            The images of these files that have no size, which are dropped.
        """
        self._db.create_function("sized", 3, sized, deterministic=True)
        self._db.execute("CREATE TABLE sizes (key BLOB PRIMARY KEY, height INTEGER, width INTEGER)")
        for img_id, height, width in sizes:
            key = _key_or_none(img_id)
            if key is not None:
                self._db.execute("INSERT OR IGNORE INTO sizes VALUES (?, ?, ?)", (key, height, width))
        self._db.execute("CREATE TABLE lacking (start TEXT)")
        self._db.executemany("INSERT INTO lacking VALUES (?)", [(f"{path}#",) for path in lacking])
        of_these = "EXISTS (SELECT 1 FROM lacking WHERE substr(images.uri, 1, length(start)) = start)"
        alone = f"{of_these} AND NOT EXISTS (SELECT 1 FROM sizes WHERE sizes.key = images.key)"
        columns = "set_name, img_id, uri, size, version"
        dropped = [ImageRef(*row) for row in self._db.execute(f"SELECT {columns} FROM images WHERE {alone}")]
        self._db.execute(f"DELETE FROM images WHERE {alone}")
        self._db.execute(
            "UPDATE images SET uri = sized(uri, s.height, s.width) FROM sizes s "
            f"WHERE s.key = images.key AND {of_these}"
        )
        return dropped

    def add_captions(self, captions: ImageCaptions) -> None:
        """Add the captions of an image; each img_id comes once."""
        row = [captions.coco_id, captions.split, captions.sentences, captions.sentence_ids]
        self._add(CAPTIONS, captions.img_id, row)

    def add_boxes(self, boxes: GivenBoxes) -> None:
        """Add the boxes given for an image; each img_id comes once."""
        self._add(BOXES, boxes.img_id, [boxes.boxes.tolist(), boxes.problem])

    def _add(self, table: str, img_id: str, row: list[Any]) -> None:
        text = json.dumps(row)
        rows = self._pending[table]
        rows.append((img_id, hashlib.sha256(text.encode()).hexdigest()[:32], text))
        if len(rows) == _ROWS_AT_ONCE:
            self._insert(table)

    def _insert(self, table: str) -> None:
        self._db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", self._pending[table])
        self._pending[table].clear()

    def _flush(self) -> None:
        for table, rows in self._pending.items():
            if rows:
                self._insert(table)

    def add_earlier(self, image: EarlierImage) -> None:
        """Add an image of an earlier run; each img_id of a set comes once."""
        ref = image.ref
        row = (ref.set_name, ref.img_id, ref.uri, ref.size, ref.version, ref.captions, ref.boxes, *image[1:])
        self._db.execute("INSERT INTO earlier VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def keep_evenly(self, count: int) -> None:
        """Drop all images but `count`, which lie evenly spread over the order of all."""
        self._query(
            "DELETE FROM images WHERE rowid NOT IN (SELECT id FROM (SELECT rowid AS id, "
            "row_number() OVER (ORDER BY set_name, key) - 1 AS number, count(*) OVER () AS total FROM images) "
            "WHERE total <= ?1 OR (number * ?1) / total <> ((number - 1) * ?1) / total OR number = 0)",
            count,
        )

    def find_clash(self) -> Clash | None:
        """Return the first two images that would share a key in one LMDB."""
        groups = "FROM images GROUP BY lmdb, key HAVING count(*) > 1"
        row = self._query(f"SELECT key, min(uri), max(uri) {groups} ORDER BY lmdb, key LIMIT 1").fetchone()
        if row is None:
            return None
        (pairs,) = self._query(f"SELECT sum(n - 1) FROM (SELECT count(*) AS n {groups})").fetchone()
        return Clash(row[0], row[1], row[2], pairs)

    def sets(self) -> dict[str, int]:
        """Return the number of images of each set, in the order of their names."""
        return dict(self._query("SELECT set_name, count(*) FROM images GROUP BY set_name ORDER BY set_name"))

    def keys(self, set_name: str) -> Iterator[bytes]:
        """Yield the LMDB keys of a set, ascending."""
        return (row[0] for row in self._query("SELECT key FROM images WHERE set_name = ? ORDER BY key", set_name))

    def refs(self) -> Iterator[ImageRef]:
        """Yield all images, in order of set and LMDB key, with the digests of what is said of them."""
        return (ImageRef(*row) for row in self._joined(_ROW))

    def rows(self) -> Iterator[CatalogRow]:
        """Yield all images in the same order, with what is said of them and their records of an earlier run."""
        if not self._query("SELECT EXISTS (SELECT 1 FROM earlier)").fetchone()[0]:
            yield from (CatalogRow(ImageRef(*row[:7]), row[7], row[8], None) for row in self._joined(_TOLD))
            return
        earlier = "e.set_name, e.img_id, e.uri, e.size, e.version, e.captions, e.boxes, e.shard, e.position, e.sha256"
        join = "LEFT JOIN earlier e ON e.set_name = i.set_name AND e.img_id = i.img_id"
        for row in self._joined(f"{_TOLD}, {earlier}", join):
            known = EarlierImage(ImageRef(*row[9:16]), *row[16:]) if row[9] is not None else None
            yield CatalogRow(ImageRef(*row[:7]), row[7], row[8], known)

    def _joined(self, columns: str, join: str = "") -> Iterable[tuple[Any, ...]]:
        return self._query(
            f"SELECT {columns} FROM images i LEFT JOIN captions c ON c.img_id = i.img_id "
            f"LEFT JOIN boxes b ON b.img_id = i.img_id {join} ORDER BY i.set_name, i.key"
        )

    def match_captions(self) -> CaptionsMatch:
        """Count the images, the rows of captions, and the images that have captions."""
        images, rows, matched = (
            self._query(f"SELECT count(*) FROM {of}").fetchone()[0]
            for of in ("images", CAPTIONS, f"images i WHERE NOT {self._no_row(CAPTIONS)}")
        )
        return CaptionsMatch(images, rows, matched)

    def unmatched_examples(self) -> tuple[str, str]:
        """Return the first img_id of the images without captions, and of the captions without an image; or nothing."""
        image, row = (
            self._query(f"SELECT ifnull(min(img_id), '') FROM {of} i WHERE {self._no_row(other)}").fetchone()[0]
            for of, other in (("images", CAPTIONS), (CAPTIONS, "images"))
        )
        return image, row

    def images_without(self, table: str) -> list[str]:
        """Return the img_ids, sorted, of images that `captions` or `boxes` says nothing of."""
        return self._ids(f"SELECT DISTINCT img_id FROM images i WHERE {self._no_row(table)}")

    def without_images(self, table: str) -> list[str]:
        """Return the img_ids, sorted, of captions or boxes whose image is not there."""
        return self._ids(f"SELECT img_id FROM {table} i WHERE {self._no_row('images')}")

    @staticmethod
    def _no_row(table: str) -> str:
        return f"NOT EXISTS (SELECT 1 FROM {table} t WHERE t.img_id = i.img_id)"

    def _ids(self, query: str) -> list[str]:
        return [row[0] for row in self._query(f"{query} ORDER BY img_id")]

    def _query(self, query: str, *values: Any) -> sqlite3.Cursor:
        self._flush()
        if not self._indexed:
            self._db.executescript(_INDICES)
            self._indexed = True
        return self._db.execute(query, values)
