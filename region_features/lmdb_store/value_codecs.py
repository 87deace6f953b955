"""The forms of an LMDB's values and key list; `docs/lmdb_forms.md` describes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from region_features.formats import safetensors, volta
from region_features.formats.volta_arrays import decode_arrays, encode_arrays
from region_features.records.json_text import parse_json
from region_features.records.region_record import RegionRecord

SOURCE_FILE = "source.json"
VOLTA = "volta"


def _unchanged(record: RegionRecord) -> RegionRecord:
    return record


@dataclass(frozen=True)
class ValueCodec:
    """Encoding and decoding of an LMDB's records and of its key list.

    Decoding takes a name for messages, and raises ValueError if the value is damaged.
    """

    encode: Callable[[RegionRecord], bytes]
    decode: Callable[[bytes, str], RegionRecord]
    # The image's id from the first bytes of a value; None if they do not hold it.
    peek: Callable[[bytes], str | None] = volta.peek_id
    encode_keys: Callable[[Sequence[bytes]], bytes] = volta.encode_keys
    decode_keys: Callable[[bytes, str], list[bytes]] = volta.decode_keys
    # A record as it comes back: rounded where float16 is stored, else unchanged.
    kept: Callable[[RegionRecord], RegionRecord] = _unchanged


_SAFETENSORS = ValueCodec(
    encode=partial(safetensors.encode_record, half=False),
    decode=safetensors.decode_record,
    peek=safetensors.peek_id,
    encode_keys=safetensors.encode_keys,
    decode_keys=safetensors.decode_keys,
)
VALUE_CODECS: Mapping[str, ValueCodec] = {
    VOLTA: ValueCodec(volta.encode_volta, volta.decode_volta),
    "volta-arrays": ValueCodec(encode_arrays, decode_arrays),
    "safetensors": _SAFETENSORS,
    "safetensors-float16": replace(
        _SAFETENSORS, encode=partial(safetensors.encode_record, half=True), kept=safetensors.rounded_to_float16
    ),
}


def codec_name_of(folder: str) -> str:
    """Return the form of an LMDB folder from its source.json; `volta` if there is none, as in other programs' LMDBs.

    ValueError if this version does not know the form.
    """
    try:
        with open(os.path.join(folder, SOURCE_FILE), "rb") as stream:
            form = parse_json(stream.read())["settings"]["lmdb_form"]  # of a BuildNote
    except (OSError, ValueError, LookupError, TypeError):
        return VOLTA
    if not isinstance(form, str) or form not in VALUE_CODECS:
        raise ValueError(f"{folder}: expected a form of {', '.join(VALUE_CODECS)}, got {form!r}; update this program")
    return form
