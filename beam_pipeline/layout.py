"""Layout: the path of everything that a run writes."""

from __future__ import annotations

from dataclasses import dataclass

from region_features.records.plan import SHARDS_FOLDER
from transforms import files
from transforms.manifest import ANNOTATIONS_FOLDER, FAILURES, MANIFEST, MANIFEST_DIGEST, PLAN
from transforms.shard_inputs import InputFiles


@dataclass(frozen=True)
class Layout:
    """Where a run's files stand below its output folder; exports name their own, see `region_features.exports`."""

    output: str

    @property
    def plan(self) -> str:
        """The plan, by which a rerun knows its own."""
        return files.join(self.output, PLAN)

    @property
    def provenance(self) -> str:
        """What the manifest says of the run's input, until the manifest is written."""
        return files.join(self.output, f"{files.TEMP_PREFIX}provenance.json")

    @property
    def inputs(self) -> InputFiles:
        """What the workers read of the images to do."""
        names = (f"{files.TEMP_PREFIX}shards.jsonl", f"{files.TEMP_PREFIX}images.jsonl")
        return InputFiles(*(files.join(self.output, name) for name in names))

    @property
    def failures(self) -> str:
        """Every failure, one a line."""
        return files.join(self.output, FAILURES)

    @property
    def manifest(self) -> str:
        """The summary of the run."""
        return files.join(self.output, MANIFEST)

    @property
    def manifest_digest(self) -> str:
        """SHA-256 of the manifest, as `sha256sum --check` reads it."""
        return files.join(self.output, MANIFEST_DIGEST)

    @property
    def shards(self) -> str:
        """Folder of the TFRecord shards."""
        return files.join(self.output, SHARDS_FOLDER)

    @property
    def annotations(self) -> str:
        """Folder of the annotation files."""
        return files.join(self.output, ANNOTATIONS_FOLDER)
