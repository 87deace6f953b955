"""Where the runs of `benchmarks.kills` read and write: a local disk, or gs:// behind a faulty network."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from beam_pipeline.exports import OUTPUTS
from beam_pipeline.output_lock import LOCK
from benchmarks.support.faulty_storage import BUCKET, FaultyStorage, emulator, faulty_storage
from region_features.records.coco import CAPTIONS_FILE, TEST1K_FILE

_ROOT = Path(__file__).resolve().parents[2]
_WEIGHTS = _ROOT / "tests" / "data" / "tiny.caffemodel"
SETS, SHARDS_A_SET = ("train2014", "val2014", "test2015"), 3
_SPLITS = ("train", "restval", "val", "test")
# All but the page that shows when each shard was written, which no two runs have alike.
REPEATABLE = ",".join(name for name in OUTPUTS if name != "report")
# Of a lease on gs://; a killed run's holds the output until it has expired.
LEASE_SECONDS = 2.0
_ON_STORAGE = f"""
import sys
from apache_beam.internal.gcp import auth
from beam_pipeline import output_lock
from beam_pipeline.__main__ import main
auth._Credentials._credentials_init = True  # Beam would look for credentials on the network for 25 seconds
output_lock.LEASE_SECONDS, output_lock._HEARTBEAT_SECONDS = {LEASE_SECONDS}, {LEASE_SECONDS / 4}
sys.exit(main())
"""


class Place(Protocol):
    """Runs of the program on one corpus, and what they leave."""

    @property
    def side_by_side(self) -> int:
        """Return how many runs fill two cores."""

    def start(self, output: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a run that makes every output; its messages go to `log`."""

    def names(self, output: str) -> list[str]:
        """List what an output holds, also while a run writes it."""

    def contents(self, output: str) -> Mapping[str, bytes | None]:
        """Return what an output holds by name; None for a folder."""

    def owner(self, output: str) -> Any:
        """Return what the output's lock says of its owner; None without one."""

    def rest_seconds(self) -> float:
        """Return how long a killed run still holds its output."""

    def faults(self) -> Counter[str]:
        """Count the faults that runs have met, by kind."""


def write_corpus(folder: Path, images_a_set: int = 4) -> Path:
    """Write a corpus in COCO's layout: three sets of up to ten images, captions, and an image that is broken."""
    rng = np.random.default_rng(2014)
    rows = []
    for position, image_set in enumerate(SETS):
        (folder / "images" / image_set).mkdir(parents=True)
        for number in range(images_a_set):
            coco_id = 10 * position + number + 1
            name = f"COCO_{image_set}_{coco_id:012d}.jpg"
            blocks = rng.integers(40, 255, (2, 16, 3), dtype=np.uint8)  # wide: few pixels for the network
            Image.fromarray(blocks.repeat(10, 0).repeat(10, 1)).save(folder / "images" / image_set / name)
            sentences = [{"raw": f"caption {i} of {coco_id}", "sentid": coco_id * 10 + i} for i in range(5)]
            row = {"filename": name, "cocoid": coco_id, "split": _SPLITS[number % len(_SPLITS)], "sentences": sentences}
            rows += [row] if image_set != "test2015" else []
    (folder / "images" / "val2014" / "COCO_val2014_000000000099.jpg").write_bytes(b"broken")
    (folder / CAPTIONS_FILE).write_text(json.dumps({"images": rows, "dataset": "coco"}))
    (folder / TEST1K_FILE).write_text("4\n14\n")
    return folder


def _start(
    program: Sequence[str], corpus: str, output: str, weights: str, log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    flags = ["--corpus", corpus, "--output", output, "--weights", weights, "--outputs", REPEATABLE]
    flags += ["--num_shards", str(SHARDS_A_SET), "--negatives_pool", "4", "--device", "cpu"]
    command = [sys.executable, *program, *flags, "--failure_threshold", "0.5"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with open(log, "wb") as stream:
        return subprocess.Popen(command, cwd=_ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=stream)


@dataclass(frozen=True)
class Disk:
    """A folder on a local disk, with the corpus in it; outputs are folders beside it."""

    folder: Path
    side_by_side: int = 2

    def start(self, output: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a run; see `Place`."""
        paths = str(self.folder / "corpus"), str(self.folder / output), str(_WEIGHTS)
        return _start(["-m", "beam_pipeline"], *paths, log, {})

    def names(self, output: str) -> list[str]:
        """Walk the folder; see `Place`."""
        folder = self.folder / output
        return [str(path.relative_to(folder)) for path in _tree(folder)]

    def contents(self, output: str) -> Mapping[str, bytes | None]:
        """Read every file; see `Place`."""
        folder = self.folder / output
        return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in _tree(folder)}

    def owner(self, output: str) -> Any:
        """Read the lock's owner; see `Place`."""
        return _parse((self.folder / output / f"{LOCK}.owner").read_bytes)

    def rest_seconds(self) -> float:
        """Return 0: the system drops a dead process's lock."""
        return 0.0

    def faults(self) -> Counter[str]:
        """Return none."""
        return Counter()


def _tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def _parse(read: Any) -> Any:
    try:
        return json.loads(read())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Give a place on the local disk."""
    write_corpus(folder / "corpus")
    yield Disk(folder)


@dataclass
class Bucket:
    """A bucket that holds corpus, weights and outputs.

    Attributes:
        storage: the network before it.
        started: runs so far; the first one, a clean run, reaches the emulator without that network.
        side_by_side: see `Place`.
    """

    storage: FaultyStorage
    started: int = 0
    side_by_side: int = 4  # a run waits for the network half of its time

    def start(self, output: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a run; see `Place`."""
        address = self.storage.base if self.started else self.storage.upstream
        self.started += 1
        paths = f"gs://{BUCKET}/corpus", f"gs://{BUCKET}/{output}", f"gs://{BUCKET}/weights.caffemodel"
        return _start(["-c", _ON_STORAGE], *paths, log, {"STORAGE_EMULATOR_HOST": address})

    def names(self, output: str) -> list[str]:
        """List the objects; see `Place`."""
        listing = json.loads(self._get(f"/storage/v1/b/{BUCKET}/o?prefix={output}/"))
        return [item["name"].removeprefix(f"{output}/") for item in listing.get("items", ())]

    def contents(self, output: str) -> Mapping[str, bytes | None]:
        """Read every object; see `Place`."""
        return {name: self._read(f"{output}/{name}") for name in self.names(output)}

    def owner(self, output: str) -> Any:
        """Read the lease; see `Place`."""
        return _parse(lambda: self._read(f"{output}/{LOCK}"))

    def rest_seconds(self) -> float:
        """Return the time in which a lease expires."""
        return LEASE_SECONDS

    def faults(self) -> Counter[str]:
        """Count those of the network."""
        return +self.storage.met

    def upload(self, name: str, data: bytes) -> None:
        """Write an object."""
        url = f"{self.storage.upstream}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={urllib.parse.quote(name)}"
        headers = {"Content-Type": "application/octet-stream"}
        urllib.request.urlopen(urllib.request.Request(url, data, headers)).close()

    def _read(self, name: str) -> bytes:
        return self._get(f"/download/storage/v1/b/{BUCKET}/o/{urllib.parse.quote(name, safe='')}?alt=media")

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.storage.upstream + path) as reply:
            return reply.read()


@contextlib.contextmanager
def bucket(folder: Path, rate: float, seed: int) -> Iterator[Bucket]:
    """Give a place in a bucket of a storage emulator, whose network meets faults in that share of the requests."""
    corpus = write_corpus(folder / "corpus")
    with emulator() as address, faulty_storage(address, rate, seed) as storage:
        place = Bucket(storage)
        place.upload("weights.caffemodel", _WEIGHTS.read_bytes())
        for path in filter(Path.is_file, _tree(corpus)):
            place.upload(f"corpus/{path.relative_to(corpus)}", path.read_bytes())
        yield place
