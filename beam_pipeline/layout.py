"""Where a run's files stand, and which of them are its own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transforms import files
from transforms.negatives import ARRAYS, PICKLE, SOURCE

FEATURES_FOLDER = "resnet101_faster_rcnn_genome_imgfeats"
_SHARD_NAME = re.compile(r".+-\d{5}-of-\d{5}\.tfrecord(\.stats\.json)?")


@dataclass(frozen=True)
class Paths:
    """Where a run's files stand."""

    output: str

    @property
    def plan(self) -> str:
        """The plan, by which a rerun knows its own."""
        return files.join(self.output, "plan.jsonl")

    @property
    def inputs(self) -> str:
        """What the manifest says of the run's input, until the manifest is written."""
        return files.join(self.output, f"{files.TEMP_PREFIX}inputs.json")

    @property
    def failures(self) -> str:
        """Every failure, one a line."""
        return files.join(self.output, "failures.jsonl")

    @property
    def shards(self) -> str:
        """Folder of the TFRecord shards."""
        return files.join(self.output, "tfrecord")

    @property
    def annotations(self) -> str:
        """Folder of the caption files."""
        return files.join(self.output, "annotations")

    @property
    def features(self) -> str:
        """Folder of the TSVs, and of the folder of LMDBs."""
        return files.join(self.output, FEATURES_FOLDER)

    @property
    def lmdbs(self) -> str:
        """Folder of VOLTA's LMDBs."""
        return files.join(self.features, "volta")

    @property
    def manifest(self) -> str:
        """The account of the run."""
        return files.join(self.output, "manifest.json")


def delete_outputs(paths: Paths) -> None:
    """Delete what runs write, by name, and nothing else."""
    shards = [files.join(paths.shards, name) for name in files.list_folder(paths.shards) if _SHARD_NAME.fullmatch(name)]
    # The plan goes last: until then a rerun knows what it is looking at.
    negatives = (files.join(paths.output, name) for name in (PICKLE, ARRAYS, SOURCE))
    files.delete_files([paths.manifest, paths.failures, *negatives, *shards, paths.plan])
