"""TFRecord shards: written in the bundle, published when whole with a stats file beside each, read back.

Each shard has a thread that encodes, writes and publishes, while the network works on the next images.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import google_crc32c
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from region_features.formats.example import ImageExample, decode_example, encode_example
from region_features.formats.tfrecord import read_records, write_record
from region_features.health.measure import HealthMeter, is_sampled
from region_features.records.failure import Failure, ImageFailure
from region_features.records.item import ImageItem, TakenRecord
from region_features.records.plan import ImageRef, ShardKey, input_digest
from region_features.records.region_record import RegionRecord
from region_features.records.stats import ShardStats
from region_features.validation.record import check_record
from transforms import files, quarantine, shutdown
from transforms.metrics import count
from transforms.publication import encode_crc32c, publish_shard

# Most records that wait to be written: two batches of a GPU, which then never waits for the writer.
_MAX_PENDING = 64
# Counters, which a progress display reads.
IMAGES_WRITTEN, IMAGES_FAILED, IMAGES_REUSED = "images_written", "images_failed", "images_reused"
Result = RegionRecord | TakenRecord | ImageFailure


def read_shard(path: str) -> Generator[bytes, None, None]:
    """Read the serialized examples of a shard, in order.

    Raises:
        ValueError: the shard is cut or damaged; names it.
        OSError: it cannot be read.
    """
    with files.open_stream(path) as stream:
        yield from read_records(stream, path)


def refuse_bad_values(record: RegionRecord, uri: str) -> RegionRecord | ImageFailure:
    """Return the record, or a failure of stage `record` where a value of it is not finite or out of its range."""
    problem = next(check_record(record, uri), None)
    if problem is None:
        return record
    # The failure names the image already, and equal reasons of many images are counted together.
    return ImageFailure("record", problem.message.removeprefix(f"{uri}, image {record.img_id}").lstrip(",: "))


@dataclass
class ShardWriter:
    """One shard being written under a temporary name.

    Attributes:
        key: which shard.
        folder: where it will stand.
        settings: see ShardStats.
    """

    key: ShardKey
    folder: str
    settings: Mapping[str, Any]
    refs: list[ImageRef] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    image_sha256: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    reused: int = 0

    def __post_init__(self) -> None:
        self._path = files.join(self.folder, self.key.filename)
        self._temporary = files.temp_name(self._path)
        self._stream = FileSystems.create(self._temporary, compression_type=CompressionTypes.UNCOMPRESSED)
        self._digest = hashlib.sha256()
        self._bytes = self._crc = 0
        self._writer = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()
        self._health = HealthMeter()

    def write(self, data: bytes) -> int:
        """Take bytes of the shard, for `write_record`."""
        self._digest.update(data)
        self._bytes += len(data)
        self._crc = google_crc32c.extend(self._crc, data)
        return self._stream.write(data)

    def add(self, item: ImageItem, result: Result) -> None:
        """Have one image's record written, or note why it has none; raises what an earlier write raised."""
        ref, captions = item.image.ref, item.image.captions
        self.refs.append(ref)
        if item.sha256:
            self.image_sha256[ref.img_id] = item.sha256
        if isinstance(result, ImageFailure):
            self.failures.append(Failure(ref.uri, ref.img_id, result.stage, result.reason))
            return
        sampled = is_sampled(len(self.ids), self.key.num_images)
        self.ids.append(ref.img_id)
        example: ImageExample | TakenRecord
        if isinstance(result, TakenRecord):
            example = result
            self.reused += 1
        else:
            example = ImageExample(
                record=result,
                filename=FileSystems.split(ref.uri)[1],
                sha256=item.sha256,
                captions=captions.sentences if captions else (),
                caption_ids=captions.sentence_ids if captions else (),
                split=captions.split if captions else "",
            )
        self._pending.append(self._writer.submit(self._append, example, sampled))
        if len(self._pending) > _MAX_PENDING:
            self._pending.popleft().result()

    def _append(self, example: ImageExample | TakenRecord, sampled: bool) -> None:
        data = example.data if isinstance(example, TakenRecord) else encode_example(example)
        write_record(self, data)
        if sampled:
            decoded = decode_example(data, self._path) if isinstance(example, TakenRecord) else example
            self._health.add(decoded.record)

    @property
    def is_whole(self) -> bool:
        """Whether every image of the shard has come."""
        return len(self.refs) == self.key.num_images

    def publish(self) -> Future[ShardStats]:
        """Have the shard published once its last record is written; the next shard need not wait for that."""
        publishing = self._writer.submit(self._publish_or_delete)
        shutdown.publishing(publishing)
        self._writer.shutdown(wait=False)
        return publishing

    def _publish_or_delete(self) -> ShardStats:
        try:
            return self._publish()
        except BaseException:
            self._delete()
            raise

    def _publish(self) -> ShardStats:
        for write in self._pending:
            write.result()
        self._stream.close()
        stats = ShardStats(
            shard=self.key.filename,
            settings=self.settings,
            inputs=input_digest(self.refs),
            ids=tuple(self.ids),
            image_sha256=self.image_sha256,
            failures=tuple(self.failures),
            reused=len(self.ids) if self.settings.get("imported") else self.reused,
            num_bytes=self._bytes,
            sha256=self._digest.hexdigest(),
            crc32c=encode_crc32c(self._crc),
            health=self._health.sample(),
        )
        publish_shard(self._temporary, self._path, stats)
        quarantine.end(self.folder, self.key)
        return stats

    def discard(self) -> None:
        """Leave nothing behind."""
        self._writer.shutdown(cancel_futures=True)
        self._delete()

    def _delete(self) -> None:
        self._stream.close()
        files.delete_files([self._temporary])


class _WriteShard(beam.DoFn):
    def __init__(self, folder: str, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._settings = settings
        self._open: ShardWriter | None = None
        self._publishing: Future[ShardStats] | None = None

    def start_bundle(self) -> None:
        self._abandon()

    def process(self, element: tuple[ImageItem, Result]) -> Iterator[str]:
        item, result = element
        if isinstance(result, RegionRecord):
            result = refuse_bad_values(result, item.image.ref.uri)
        if self._open is None:
            self._open = ShardWriter(item.shard, self._folder, self._settings)
        if self._open.key != item.shard:
            raise RuntimeError(
                f"shard {item.shard.filename} began before {self._open.key.filename} was whole: "
                "expected the runner to keep a shard's images together"
            )
        self._open.add(item, result)
        count(IMAGES_FAILED if isinstance(result, ImageFailure) else IMAGES_WRITTEN)
        if isinstance(result, TakenRecord):
            count(IMAGES_REUSED)
        if self._open.is_whole:
            yield from self._published()
            self._publishing, self._open = self._open.publish(), None

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for name in self._published():
            yield GlobalWindows.windowed_value(name)
        if self._open is not None:
            key, came = self._open.key, len(self._open.refs)
            self._abandon()
            raise RuntimeError(f"shard {key.filename}: expected {key.num_images} images in its bundle, got {came}")

    def teardown(self) -> None:
        self._abandon()

    def _published(self) -> Iterator[str]:
        """The shard that is being published, when it is."""
        if self._publishing is not None:
            publishing, self._publishing = self._publishing, None
            yield publishing.result().shard

    def _abandon(self) -> None:
        if self._publishing is not None:
            publishing, self._publishing = self._publishing, None
            publishing.exception()  # waits for its end; a whole shard may stay, what is not whole it deletes itself
        if self._open is not None:
            abandoned, self._open = self._open, None
            abandoned.discard()


@dataclass
class WriteShards(beam.PTransform):
    """(ImageItem, result), a shard's images together and in order -> names of the published shards.

    Attributes:
        folder: where the shards go.
        settings: everything that decides the records' bytes.
    """

    folder: str
    settings: Mapping[str, Any]

    def expand(self, results: beam.PCollection) -> beam.PCollection:
        """Apply the writer."""
        return results | "WriteShard" >> beam.ParDo(_WriteShard(self.folder, dict(self.settings)))
