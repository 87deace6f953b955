"""Read the keys out of an LMDB's `data.mdb`: iterating over a damaged tree of pages by lmdb ends the process.

The format is that of LMDB 0.9 (`mdb.c`: MDB_page, MDB_node, MDB_meta, MDB_db) on machines of 64 bits, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

_PAGE = struct.Struct("<QHHHH")  # number, padding, flags, end of the nodes' offsets, begin of the nodes
_NODE = struct.Struct("<HHHH")  # leaf: size of the value (low, high), flags; branch: page (low, middle, high); key size
_BRANCH, _LEAF, _KINDS = 0x01, 0x02, 0x07  # flags of a page
# Flags of a leaf's node: the value lies in pages of its own, and the node holds their number; the key has many values.
_BIG_VALUE, _MANY_VALUES = 0x01, 0x04
# Both meta pages: magic; of the main database depth, root, and then the file's last page and transaction.
_META = struct.Struct("<16xI74xH32xQQQ")
_MAGIC = 0xBEEFC0DE
_EMPTY = 2**64 - 1


def read_keys(stream: BinaryIO, page_size: int) -> list[bytes]:
    """Walk from the root to every leaf; the pages of values are not read.

    Args:
        stream: of a whole `data.mdb`.
        page_size: bytes.

    Returns:
        All keys of the main database, in the order of the tree.

    Raises:
        ValueError: a page that the tree needs is damaged; names the page.
    """
    metas = []
    for number in range(2):
        stream.seek(number * page_size)
        metas.append(_META.unpack(stream.read(_META.size)))
    _magic, depth, root, last_page, _ = max((meta for meta in metas if meta[0] == _MAGIC), key=lambda meta: meta[4])
    keys: list[bytes] = []
    walked: set[int] = set()
    pending = [(root, 1)] if root != _EMPTY else []
    while pending:
        number, level = pending.pop()
        if not 2 <= number <= last_page:
            raise ValueError(f"a page of its tree has number {number}, of {last_page + 1}")
        if number in walked:
            raise ValueError(f"page {number} of its tree is damaged: it comes twice")
        walked.add(number)
        stream.seek(number * page_size)
        page = stream.read(page_size)
        is_leaf = level == depth
        try:
            nodes = list(_check_page(page, number, _LEAF if is_leaf else _BRANCH, last_page))
        except (ValueError, struct.error) as error:
            raise ValueError(f"page {number} of its tree is damaged: {error}") from error
        if is_leaf:
            keys.extend(key for key, _ in nodes)
        else:
            pending.extend((child, level + 1) for _, child in reversed(nodes))
    return keys


def _check_page(page: bytes, number: int, kind: int, last_page: int) -> Iterator[tuple[bytes, int]]:
    """Check a page, and yield the key of each of its nodes, with the page below a branch's node."""
    own_number, _, flags, end_of_offsets, begin_of_nodes = _PAGE.unpack_from(page)
    if own_number != number or flags & _KINDS != kind:
        raise ValueError(f"expected number {number} and kind {kind}, got {own_number} and {flags & _KINDS}")
    if not _PAGE.size < end_of_offsets <= begin_of_nodes <= len(page) or end_of_offsets % 2:
        raise ValueError(f"expected offsets of nodes within {len(page)} bytes")
    for (offset,) in struct.iter_unpack("<H", page[_PAGE.size : end_of_offsets]):
        low, high, high_or_flags, key_size = _NODE.unpack_from(page, offset)
        begin_of_key = offset + _NODE.size
        end = begin_of_key + key_size
        child = low | high << 16 | high_or_flags << 32
        if kind == _BRANCH:
            pass  # its node ends with the key
        elif high_or_flags & _BIG_VALUE:
            (first,) = struct.unpack_from("<Q", page, end)
            pages = -(-(_PAGE.size + (low | high << 16)) // len(page))
            if not 2 <= first <= last_page + 1 - pages:
                raise ValueError(f"a value lies in {pages} pages from {first}, of {last_page + 1}")
            end += 8
        elif high_or_flags & _MANY_VALUES:
            raise ValueError("a key with many values")  # lmdb ends the process where the pages of these are damaged
        else:
            end += low | high << 16
        if offset < begin_of_nodes or end > len(page):
            raise ValueError(f"a node ends at byte {end} of {len(page)}")
        yield page[begin_of_key : begin_of_key + key_size], child
