"""The key under which VOLTA's feature reader looks an image up."""

from __future__ import annotations

KEYS_RECORD = b"keys"  # the key of VOLTA's list of all keys; no image may have it
MAX_KEY_BYTES = 511  # LMDB's default limit at compile time


def lmdb_key(img_id: str) -> bytes:
    """Return the LMDB key of an image, 1 to 511 bytes; the byte order of the keys is the order of LMDBs and shards.

    If the part after the last `_` is all ASCII digits, the key is that number in decimal (`42` for both
    `COCO_val2014_000000000042` and `000042`), else the whole file stem in UTF-8.

    Raises:
        ValueError: the file stem is empty, reserved, too long or not valid Unicode.
    """
    if not img_id:
        raise ValueError("expected a file stem as image id, got an empty one; give the image a name before its suffix")
    number = img_id.rpartition("_")[2]
    # str.isdigit alone accepts superscripts and other scripts' digits.
    decimal = number.isascii() and number.isdigit()
    try:
        key = ((number.lstrip("0") or "0") if decimal else img_id).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"image {img_id!r}: expected a stem that is valid Unicode, got a byte that is not; rename the file"
        ) from error
    if key == KEYS_RECORD:
        raise ValueError(f"image {img_id}: its LMDB key is {KEYS_RECORD!r}, which names the key list; rename the file")
    if len(key) > MAX_KEY_BYTES:
        raise ValueError(
            f"image {img_id[:64]}...: expected an LMDB key of at most {MAX_KEY_BYTES} bytes, got {len(key)}; "
            "shorten the file name"
        )
    return key
