"""An output with folders of files, and ways to damage it that list, note and manifest agree with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from region_features.formats.coco_json import ANNOTATIONS, CATEGORIES, END, IMAGES
from region_features.formats.webdataset import Member, find_members
from tests.samples.damage import FIRST, edit_json, reseal
from tests.samples.program import run
from transforms import files

OUTPUTS = "webdataset,parquet,openvqa,coco-json"
TAR = Path("webdataset") / "train2014" / "000000.tar"
TABLE = Path("parquet") / "train2014" / "train2014-00000-of-00002.parquet"
NPZ = Path("openvqa") / "train2014" / f"{FIRST}.jpg.npz"
JSON = Path("coco-json") / "train2014.json"


@pytest.fixture(name="made", scope="module")
def made_once() -> dict[str, Path]:
    """Keep the output that the module's first test makes; each test gets a copy."""
    return {}


@pytest.fixture(name="out")
def copied_output(corpus: Path, tmp_path: Path, made: dict[str, Path]) -> Path:
    if not made:
        outputs = f"tfrecord,captions,{OUTPUTS}"
        assert run("--corpus", corpus, "--output", tmp_path / "made", "--num_shards", 2, "--outputs", outputs) == 0
        made["out"] = tmp_path / "made"
    shutil.copytree(made["out"], tmp_path / "out")
    return tmp_path / "out"


def relist(out: Path, path: Path) -> None:
    """Make list, note and manifest agree on the files of a folder as they are now."""
    folder, name = out / path.parent, path.parent.name
    digests = {file.name: files.sha256_of(str(file)) for file in sorted(folder.iterdir())}
    listing = folder.with_name(f"{name}.sha256")
    listing.write_text("".join(f"{sha256}  {name}/{file}\n" for file, sha256 in digests.items()))
    note = folder.with_name(f"{name}.source.json")
    content = json.loads(note.read_text())
    size = sum(file.stat().st_size for file in folder.iterdir())
    content["files"] = {f"{name}/": size, listing.name: listing.stat().st_size}
    note.write_text(json.dumps(content))
    reseal(out)


def edit_file(path: Path, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change a file of a folder, with list, note and manifest that agree on the new one."""

    def damage(out: Path) -> None:
        (out / path).write_bytes(change((out / path).read_bytes()))
        relist(out, path)

    return damage


def copy_file(path: Path, source: Path) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        shutil.copy(out / source, out / path)
        relist(out, path)

    return damage


def members(out: Path) -> list[Member]:
    with (out / TAR).open("rb") as stream:
        return list(find_members(stream, str(TAR)))


def without_first_sample(out: Path) -> None:
    data = (out / TAR).read_bytes()
    ends = [member.offset + member.size for member in members(out)]
    (out / TAR).write_bytes(data[-(-ends[1] // 512) * 512 :])
    relist(out, TAR)


def change_array(out: Path) -> None:
    data = bytearray((out / TAR).read_bytes())
    arrays = next(member for member in members(out) if member.name == f"{FIRST}.safetensors")
    data[arrays.offset + arrays.size - 1] ^= 1  # of the last array
    (out / TAR).write_bytes(data)
    relist(out, TAR)


def edit_table(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    """Change the rows of a table, with list, note and manifest that agree on the new one."""

    def damage(out: Path) -> None:
        table = pq.read_table(out / TABLE)
        rows = table.to_pylist()
        change(rows)
        schema = pa.schema([field for field in table.schema if field.name in rows[0]])
        pq.write_table(pa.Table.from_pylist(rows, schema), out / TABLE)
        relist(out, TABLE)

    return damage


def edit_npz(**changes: Any) -> Callable[[Path], None]:
    """Change arrays of a file, with list, note and manifest that agree on the new one."""

    def damage(out: Path) -> None:
        arrays = dict(np.load(out / NPZ))
        np.savez(out / NPZ, **{**arrays, **changes})
        relist(out, NPZ)

    return damage


def edit_content(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the JSON, laid out as before, with a note and a manifest that agree on the new one."""

    def damage(out: Path) -> None:
        content = json.loads((out / JSON).read_text())
        change(content)
        by_image: dict[int, list[str]] = {}
        for row in content["annotations"]:
            by_image.setdefault(row["image_id"], []).append(json.dumps(row))
        sections = (
            (ANNOTATIONS, [", ".join(rows) for rows in by_image.values()]),
            (IMAGES, [json.dumps(row) for row in content["images"]]),
            (CATEGORIES, [json.dumps(row) for row in content["categories"]]),
        )
        text = "".join(f"{mark.decode()}{(',' + chr(10)).join(lines)}\n" for mark, lines in sections)
        (out / JSON).write_text(text + END.decode())
        size = (out / JSON).stat().st_size
        edit_json(f"{JSON}.source.json", lambda note: note["files"].update({JSON.name: size}))(out)
        reseal(out)

    return damage


def remove_file(out: Path, path: Path) -> None:
    (out / path).unlink()
    relist(out, path)


def flip(path: Path) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        data = bytearray((out / path).read_bytes())
        data[len(data) // 2] ^= 1
        (out / path).write_bytes(data)

    return damage
