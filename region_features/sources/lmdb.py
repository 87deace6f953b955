"""The values of an LMDB: a folder with `data.mdb`, or a single file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cached_property
from itertools import islice

from region_features.lmdb_store.reader import LmdbReader, data_path
from region_features.records.failure import Failure
from region_features.records.key import lmdb_key
from region_features.records.region_record import RegionRecord
from region_features.sources.base import Place, Source, value_of
from region_features.sources.lmdb_forms import ATT, ValueForm, form_of

_PEEKED_BYTES = 4096  # start of a value, which holds the image's id in most forms
_TRIED = 8  # values, of which one can be read
_KEY = "key"
_MAGIC = bytes.fromhex("dec0efbe")


def begins_an_lmdb(head: bytes) -> bool:
    """Return whether a file that begins so is an LMDB on a machine of this byte order."""
    return head[16:20] == _MAGIC


class LmdbSource(Source):
    """An LMDB of any program.

    ValueError on first use: it is cut off, of an unknown form, or only a part of what is needed.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._reader = LmdbReader(path)

    @cached_property
    def _form(self) -> ValueForm:
        reader = LmdbReader(self.path, readahead=False)
        keys = reader.stored_keys()
        value = b""
        for key in islice((key for key in keys if not _is_no_image(key)), _TRIED):
            # One that cannot be read is a failure of its image alone, later.
            with contextlib.suppress(ValueError):
                value = value or reader.get(key) or b""
        return form_of(self.path, value, [key for key in keys if _is_no_image(key)])

    @cached_property
    def _boxes(self) -> LmdbReader | None:
        return LmdbReader(self._form.boxes) if self._form.boxes else None

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The format that its values have."""
        return self._form.kind

    @property
    def sizes(self) -> str:  # type: ignore[override]
        """What its values tell of the images' sizes."""
        return self._form.sizes

    def files(self, place: str) -> tuple[str, ...]:
        """Return the LMDB's file, and that of the boxes."""
        return tuple(data_path(path) for path in (self.path, self._form.boxes) if path)

    @property
    def default_set(self) -> str:
        """The name of the LMDB, without what programs add to a set's name; of UNITER's, that of the folder above it."""
        if self._form.kind == "uniter":
            return os.path.basename(os.path.dirname(os.path.abspath(self.path)))
        name = os.path.basename(os.path.normpath(self.path)).removesuffix(".lmdb")
        return (
            name.removesuffix("_feat").removesuffix(ATT).removesuffix("bu")
            if self._form.boxes
            else name.removesuffix("_feat")
        )

    def places(self) -> Iterator[Place | Failure]:
        """Read the start of each value, for its id, where the key does not tell it."""
        form = self._form
        reader = LmdbReader(self.path, readahead=False)  # one page is read of each value
        for key in reader.stored_keys():
            if _is_no_image(key):
                continue
            place = f"{_KEY}={key.decode('utf-8', 'backslashreplace')}"
            where = f"{self.path}#{place}"
            try:
                found = reader.peek(key, _PEEKED_BYTES)
                if found is None:
                    raise ValueError(f"{where}: the order of the LMDB's keys is damaged, it does not lead to this one")
                head, num_bytes = found
                img_id = form.peek(head, key) or form.decode([reader.get(key) or b""], key, where).img_id
                if form.key_of_id and lmdb_key(img_id) != key:
                    raise ValueError(f"{where}: expected the key {lmdb_key(img_id)!r} of its image {img_id}")
            except ValueError as error:
                yield self.failure(place, error)
            else:
                yield Place(img_id, place, num_bytes)

    def keyed_places(self) -> Iterator[tuple[str, str, str] | Failure]:
        """Yield the keys themselves where they follow from the ids, which are then not read."""
        if not self._form.key_of_id:
            yield from super().keyed_places()
            return
        for key in LmdbReader(self.path, readahead=False).stored_keys():
            if not _is_no_image(key):
                text = key.decode("utf-8", "backslashreplace")
                yield text, text, f"{_KEY}={text}"

    def read(self, place: str) -> RegionRecord:
        """Read one value."""
        key = value_of(place, _KEY, self.path).encode()
        where = f"{self.path}#{place}"
        values = []
        for reader in (self._reader, self._boxes):
            if reader is not None:
                value = reader.get(key)
                if value is None:
                    raise ValueError(f"{reader.path}#{place}: the key is gone")
                values.append(value)
        return self._form.decode(values, key, where)


def _is_no_image(key: bytes) -> bool:
    """Return whether a key is of a record about the LMDB, as lmdbdict's and UNITER's are; `keys` is left out before."""
    return key.startswith(b"__") and key.endswith(b"__")
