"""`--reuse`: what an earlier output has of the images of this run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from beam_pipeline.layout import Layout
from beam_pipeline.progress.run_progress import IMAGES, show_count
from beam_pipeline.usage import UsageError
from region_features.planning.catalog import Catalog, EarlierImage
from region_features.planning.reuse import earlier_record, settings_changed
from region_features.planning.shard_inputs import ShardEntry, encode_image
from region_features.records.plan import Plan, ShardKey, input_digest
from transforms import files
from transforms.copied_shards import is_damaged
from transforms.manifest import PLAN
from transforms.plans import cut_images, open_plan
from transforms.published import read_published
from transforms.shard_inputs import InputFiles


@dataclass(frozen=True)
class Earlier:
    """An earlier output whose records may be taken over.

    Attributes:
        plan: of its run.
        shards: paths of its shards.
        whole: digest of the images of each whole shard without failures -> its path.
        checksum: whether the content of every image is compared.
    """

    plan: Plan
    shards: tuple[str, ...]
    whole: Mapping[str, str]
    checksum: bool


def read_earlier(output: str, settings: Mapping[str, Any], catalog: Catalog, checksum: bool) -> Earlier | str:
    """Add to the catalog what an earlier output has; it may be that of a run that was interrupted.

    Args:
        output: the folder.
        settings: of this run.
        catalog: the images of this run.
        checksum: compare the content of every image.

    Returns:
        What it has, or why none of its records is one of this run.

    Raises:
        UsageError: no run wrote to it.
    """
    layout = Layout(output)
    if PLAN not in files.list_folder(output):
        raise UsageError(
            f"--reuse {output}: expected the --output of a run, with {PLAN} in it, found none; check the path"
        )
    plan = open_plan(layout.plan)
    # A dry run does not know the weights, and takes them to be the same.
    change = settings_changed(plan.settings, {"weights_sha256": plan.settings.get("weights_sha256"), **settings})
    if change:
        return change
    shards: list[str] = []
    whole = {}
    for key, stats in read_published(layout.shards, plan).items():
        path = files.join(layout.shards, key.filename)
        if not stats.failures:
            whole[stats.inputs] = path
        positions = {img_id: position for position, img_id in enumerate(stats.ids)}
        for ref in plan.shards[key]:
            if ref.img_id in positions:
                sha256 = stats.image_sha256.get(ref.img_id, "")
                catalog.add_earlier(EarlierImage(ref, len(shards), positions[ref.img_id], sha256))
        shards.append(path)
    return Earlier(plan, tuple(shards), {} if checksum else whole, checksum)


def find_copies(earlier: Earlier | None, plan: Plan, todo: frozenset[str]) -> dict[str, ShardEntry]:
    """Return the shards to do, by file name, that the earlier output has as they are."""
    copies = {}
    for key, refs in plan.shards.items() if earlier and earlier.whole else ():
        digest = input_digest(refs) if key.filename in todo else ""
        if earlier and digest in earlier.whole:
            copies[key.filename] = ShardEntry(key, copy_of=earlier.whole[digest], inputs=digest)
    return copies


class Work(NamedTuple):
    """How many images of the shards to do are new, and how many have an earlier record or one to be compared."""

    new: int
    reused: int
    compared: int


@dataclass(frozen=True)
class ShardWork:
    """What is to be done for the shards of a plan that are not there.

    Attributes:
        catalog: the images.
        cut: sizes of the shards of each set.
        todo: file names of the shards to do.
        copies: those of them that are copies.
        earlier: where records are taken from.
        with_boxes: whether boxes are given.
    """

    catalog: Catalog
    cut: Mapping[str, list[int]]
    todo: frozenset[str]
    copies: Mapping[str, ShardEntry]
    earlier: Earlier | None
    with_boxes: bool

    @property
    def to_make(self) -> frozenset[str]:
        """File names of the shards that are made of their images."""
        return self.todo - self.copies.keys()

    def without_damaged(self, say: Callable[[str], None]) -> ShardWork:
        """Return the same work without copies of damaged shards, of which each record that can be read is taken over.

        Args:
            say: is told of each damaged shard.
        """
        if not self.copies:
            return self
        whole = {}
        reading = show_count(self.copies.items(), "checking earlier shards", " shards", len(self.copies))
        for name, entry in reading:
            if is_damaged(entry.copy_of):
                say(f"{entry.copy_of} is damaged: what cannot be read of it is computed")
            else:
                whole[name] = entry
        return replace(self, copies=whole)

    def count(self) -> Work:
        """Count the images to do by what becomes of them."""
        new, compared = 0, 0
        reused = sum(entry.key.num_images for entry in self.copies.values())
        for _, record in (image for _, images in self._shards() for image in images):
            new += record is None
            compared += record is not None and bool(record.sha256)
            reused += record is not None and not record.sha256
        return Work(new, reused, compared)

    def publish(self, inputs: InputFiles) -> None:
        """Write the files that the workers read."""
        entries = list(self.copies.values())

        def lines() -> Iterator[bytes]:
            offset = 0
            for key, images in self._shards():
                begin = offset
                for row, record in images:
                    line = encode_image(row, record, self.with_boxes)
                    offset += len(line)
                    yield line
                entries.append(ShardEntry(key, begin, offset - begin))

        files.publish_bytes(inputs.images, lines())
        files.publish_bytes(inputs.entries, (entry.to_line() for entry in entries))

    def _shards(self) -> Iterator[tuple[ShardKey, Iterator[Any]]]:
        to_make = self.to_make
        if not to_make:
            return
        shards, checksum = (self.earlier.shards, self.earlier.checksum) if self.earlier else ((), False)
        total = sum(map(sum, self.cut.values()))
        images_of_all = show_count(self.catalog.rows(), "joining captions", IMAGES, total)
        for key, rows in cut_images(images_of_all, self.cut):
            images = ((row, earlier_record(row, shards, checksum)) for row in rows)
            if key.filename in to_make:
                yield key, images
            for _ in images:  # the next shard begins after the last image of this one
                pass
