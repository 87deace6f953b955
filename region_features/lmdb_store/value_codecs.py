"""The forms that an LMDB's values and key list come in; `docs/lmdb_forms.md` says which is for whom."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from region_features.formats.compact import (
    decode_compact,
    decode_json_keys,
    encode_compact,
    encode_json_keys,
    peek_compact,
    to_float16,
)
from region_features.formats.key_list import decode_key_list
from region_features.formats.pickle_peek import peek_pickle
from region_features.formats.portable_pickle import PICKLE_PROTOCOL
from region_features.formats.volta import decode_volta, encode_volta
from region_features.formats.volta_arrays import decode_arrays, encode_arrays
from region_features.records.region_record import RegionRecord

SOURCE_FILE = "source.json"
VOLTA = "volta"


def _as_it_is(record: RegionRecord) -> RegionRecord:
    return record


def _pickled_keys(keys: Sequence[bytes]) -> bytes:
    return pickle.dumps(list(keys), protocol=PICKLE_PROTOCOL)


@dataclass(frozen=True)
class ValueCodec:
    """How records and the key list become bytes and come back.

    Attributes:
        encode: the value of an image.
        decode: a value, and a name for messages, back into the record; ValueError where it is damaged.
        peek: the image's id from the first bytes of a value, None where they do not tell.
        encode_keys, decode_keys: the record `keys` likewise.
        kept: what of a record comes back: all of it, but where float16 is stored.
    """

    encode: Callable[[RegionRecord], bytes]
    decode: Callable[[bytes, str], RegionRecord]
    peek: Callable[[bytes], str | None]
    encode_keys: Callable[[Sequence[bytes]], bytes] = _pickled_keys
    decode_keys: Callable[[bytes, str], list[bytes]] = decode_key_list
    kept: Callable[[RegionRecord], RegionRecord] = _as_it_is


def _compact(half: bool = False, zstd: bool = False) -> ValueCodec:
    return ValueCodec(
        encode=partial(encode_compact, half=half, zstd=zstd),
        decode=decode_compact,
        peek=peek_compact,
        encode_keys=encode_json_keys,
        decode_keys=decode_json_keys,
        kept=to_float16 if half else _as_it_is,
    )


VALUE_CODECS: Mapping[str, ValueCodec] = {
    VOLTA: ValueCodec(encode_volta, decode_volta, peek_pickle),
    "volta-arrays": ValueCodec(encode_arrays, decode_arrays, peek_pickle),
    "compact": _compact(),
    "compact-zstd": _compact(zstd=True),
    "compact-float16": _compact(half=True),
    "compact-float16-zstd": _compact(half=True, zstd=True),
}


def form_of(folder: str) -> str:
    """The form of an LMDB folder, as its source.json says; one that says nothing is VOLTA's.

    Raises:
        ValueError: the form is not known here.
    """
    try:
        with open(os.path.join(folder, SOURCE_FILE), "rb") as stream:
            form = json.load(stream).get("form", VOLTA)
    except (OSError, ValueError, AttributeError):
        return VOLTA  # other programs' LMDBs have no such file
    if not isinstance(form, str) or form not in VALUE_CODECS:
        raise ValueError(f"{folder}: expected a form of {', '.join(VALUE_CODECS)}, got {form!r}; update this program")
    return form
