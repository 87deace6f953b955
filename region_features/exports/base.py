"""What every export is: its targets, how each is built from shards, how its content is compared with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

from region_features.formats.example import ImageExample, decode_example
from region_features.formats.listing import LISTING_SUFFIX
from region_features.records.build_note import NOTE_SUFFIX, BuildNote
from region_features.records.coco import IMAGE_SETS
from region_features.records.item import ImageCaptions
from region_features.records.region_record import RegionRecord
from region_features.report.run_files import RunFiles
from region_features.validation.record import Problem

# Where VOLTA's scripts look for LMDBs and TSVs.
FEATURES_FOLDER = "resnet101_faster_rcnn_genome_imgfeats"
# Takes what is counted, `records written` for one, and how many there are so far.
OnProgress = Callable[[str, int], None]


@dataclass(frozen=True)
class Target:
    """One thing that an export builds.

    Attributes:
        name: as the manifest lists it.
        sets: the image sets whose records it holds.
        files: names of its files, which may stand in folders of their own below `folder`: `NAME/FILE`.
        folder: path of the files' folder below the output folder, `/` between names; empty for the output folder.
        note: name of its BuildNote, in the same folder.
        optional: names of files that a build may leave out.
        contents: name of a folder in the same folder, for a target whose files are known only once they are built: they
            are all that stands in it. Such a target has no `files`.
    """

    name: str
    sets: tuple[str, ...]
    files: tuple[str, ...] = ()
    folder: str = ""
    note: str = ""
    optional: tuple[str, ...] = ()
    contents: str = ""

    def __post_init__(self) -> None:
        if not self.note:
            object.__setattr__(self, "note", self.name + NOTE_SUFFIX)

    @property
    def listing(self) -> str:
        """Name of the file that lists those in `contents` with their SHA-256; empty where there is no such folder."""
        return self.contents and self.contents + LISTING_SUFFIX

    @property
    def parts(self) -> tuple[str, ...]:
        """Names under which a BuildNote has its bytes: its files, or `CONTENTS/` for all in there, and the listing."""
        return (f"{self.contents}/", self.listing) if self.contents else self.files

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all that it puts into its folder."""
        return (*(part.rstrip("/") for part in self.parts), *self.optional, self.note)


def group_sets(sets: Sequence[str], name_of: Callable[[str], str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Group image sets by the name of the file that holds them: (name, sets).

    A set of the user's that itself has the name of a group of COCO's is another group, so that the two clash.
    """
    groups: dict[tuple[str, bool], list[str]] = {}
    for set_name in sets:
        groups.setdefault((name_of(set_name), set_name in IMAGE_SETS), []).append(set_name)
    for (name, _), members in groups.items():
        yield name, tuple(members)


@dataclass(frozen=True)
class Sources:
    """The shards that a target is built from, read by the caller's file system.

    Attributes:
        output: path of what is built, for messages.
        shards: set name -> paths of its shards; a set's records come in ascending order of their LMDB keys.
        num_bytes: of all shards together.
        read_shard: path -> the serialized examples of a shard.
        read_ids: path -> the img_ids in a shard, without reading it.
        read_captions: reads the captions in the order of their file; None where an export needs none.
        run: what stands beside the shards; None where nothing else is known.
    """

    output: str
    shards: Mapping[str, tuple[str, ...]]
    num_bytes: int
    read_shard: Callable[[str], Iterable[bytes]]
    read_ids: Callable[[str], Sequence[str]]
    read_captions: Callable[[], Iterable[ImageCaptions]] | None = None
    run: RunFiles | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The shards of all sets."""
        return tuple(path for paths in self.shards.values() for path in paths)

    def examples(self, paths: Iterable[str]) -> Iterator[tuple[str, ImageExample]]:
        """Read shards one after the other: (shard, example).

        Raises:
            ValueError: a shard is damaged; names it.
        """
        for path in paths:
            for data in self.read_shard(path):
                yield path, decode_example(data, path)


def require_fields(record: RegionRecord, fields: Sequence[str], shard: str, output: str) -> None:
    """Raise a ValueError if a record lacks an array that an output needs."""
    for name in fields:
        if record.lacks(name):
            raise ValueError(
                f"{shard}, image {record.img_id}, field {name}: the output {output} needs it, and the file that this "
                f"record was imported from has none; leave {output} out of --outputs"
            )


class ShardImage(NamedTuple):
    """An image of a shard: the shard, its id, and Karpathy's split, empty where it has no captions."""

    shard: str
    img_id: str
    split: str


class Copy:
    """The records as one target holds them, compared with those of the shards."""

    def check(self, record: RegionRecord, shard: str) -> Iterator[Problem]:
        """Compare the target's copy of one record of a shard; called in several threads, by one for each shard."""
        return iter(())

    def check_example(self, example: ImageExample, shard: str) -> Iterator[Problem]:
        """Compare a record with its captions, for formats that hold these too; called in place of `check`."""
        return self.check(example.record, shard)

    def check_rest(self, images: Sequence[ShardImage], whole: bool) -> Iterator[Problem]:
        """Look for content that belongs to no image, once every shard was read.

        Args:
            images: all images of the target's sets.
            whole: whether every shard could be read to its end.
        """
        return iter(())


class Export(ABC):
    """One format. Fields of a subclass are the flags that it takes, by the same names.

    A subclass is a frozen dataclass whose fields have defaults; it stands in `beam_pipeline.exports.EXPORTS`. The names
    of targets do not depend on its fields: commands that look at an output know none of its flags.
    """

    name: ClassVar[str]  # as `--outputs` has it
    needs_captions: ClassVar[bool] = False
    uses_captions: ClassVar[bool] = False  # where there are captions, it is built with them
    needs: ClassVar[tuple[str, ...]] = ()  # arrays of ARRAY_FIELDS that some imported records lack
    of_failed_runs: ClassVar[bool] = False  # it is built of the shards that there are, too, where a run failed
    modules: ClassVar[tuple[str, ...]] = ()  # of the extra `formats`, that building and checking need

    @property
    def requested(self) -> bool:
        """Whether its flags ask for this export, where several of one name are forms of a format."""
        return True

    @abstractmethod
    def targets(self, sets: Sequence[str], settings: Mapping[str, Any]) -> Iterator[Target]:
        """Name what is built.

        Args:
            sets: the image sets of a run.
            settings: of the run's plan.
        """

    def refuse_id(self, img_id: str) -> str | None:
        """Return why the format cannot hold an image of this id, None if it can."""
        return None

    def refuse_settings(self, settings: Mapping[str, Any]) -> str | None:
        """Return why the format cannot hold what these settings of a plan give, None if it can.

        The numbers of boxes of given and imported records are not in the settings.
        """
        return None

    def settings(self) -> dict[str, Any]:
        """Return everything but the shards and the captions that decides the bytes."""
        return asdict(self)  # type: ignore[call-overload]

    @abstractmethod
    def build(self, target: Target, sources: Sources, folder: str, on_progress: OnProgress) -> dict[str, Any]:
        """Write a target's files, or those of its `contents`, into an empty local folder.

        The same sources give the same bytes.

        Returns:
            Counts, and what else manifest and summary say.

        Raises:
            ImportError: one of `modules` is not installed.
            ValueError: a shard is damaged, or the records cannot be exported; names shard and image.
            OSError: a shard cannot be read, or a file cannot be written.
        """

    @abstractmethod
    def open(self, target: Target, folder: str, note: BuildNote) -> Copy:
        """Open a target for comparison with the shards.

        Args:
            target: which.
            folder: the local folder that holds its files, or its `contents`.
            note: what it was built from.

        Raises:
            ImportError: one of `modules` is not installed.
            ValueError, OSError: a file is damaged or cannot be read.
        """

    @abstractmethod
    def describe(self, row: Mapping[str, Any]) -> str:
        """Say in a few words what a target holds, by its row of the manifest: settings and counts."""
