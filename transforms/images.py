"""Read, decode and prepare the images of a shard ahead of the detector, in LMDB key order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue
from numpy.typing import NDArray

from region_features.images.batches import BatchLoader, ImageBatch, Loaded
from region_features.images.decode import decode_image, working_bytes
from region_features.images.decode_memory import DECODE_MEMORY
from region_features.records.failure import ImageFailure
from region_features.records.given_boxes import check_inside
from region_features.records.item import CaptionedImage, ImageItem
from region_features.records.plan import ImageRef, ShardKey
from region_features.records.prepared_image import Prepare, PreparedImage
from transforms import files, shutdown
from transforms.earlier_records import EarlierShards
from transforms.input_files import FileState, is_as_listed
from transforms.quarantine import Trial, begin

# Most encoded bytes of a real image: for each pixel, and for its metadata.
_BYTES_PER_PIXEL = 8
_METADATA_BYTES = 16 << 20


class _ImageBatchCoder(beam.coders.Coder):
    """Pickles batches as Beam's own coder does, but does not pickle hundreds of megabytes to estimate their size."""

    _pickle = beam.coders.PickleCoder()

    def encode(self, value: ImageBatch) -> bytes:
        return self._pickle.encode(value)

    def decode(self, encoded: bytes) -> ImageBatch:
        return self._pickle.decode(encoded)

    def estimate_size(self, value: ImageBatch) -> int:
        return sum(example.pixels.nbytes for _, example in value if isinstance(example, PreparedImage))


beam.coders.registry.register_coder(ImageBatch, _ImageBatchCoder)


def read_image(ref: ImageRef, pixel_limit: int, exif: bool = False) -> tuple[str, NDArray[np.uint8]]:
    """Read one image, and decode it as `decode_image` does.

    Returns:
        Hex SHA-256 of the encoded file, and uint8 (H, W, 3) BGR pixels.

    Raises:
        ImageFailure: stage `read` or `decode`, with the reason.
    """
    sha256, data = _read_encoded(ref, pixel_limit)
    return sha256, decode_image(data, pixel_limit, exif)


def _read_encoded(ref: ImageRef, pixel_limit: int) -> tuple[str, bytes]:
    try:
        data = files.read_bytes(ref.uri, limit=pixel_limit * _BYTES_PER_PIXEL + _METADATA_BYTES)
    except OSError as error:
        raise ImageFailure("read", error.strerror or str(error)) from error
    except Exception as error:  # remote file systems raise their own classes
        raise ImageFailure("read", f"{type(error).__name__}: {error}") from error
    if not is_as_listed(ref.uri, data, FileState(ref.size, ref.version)):
        raise ImageFailure("read", "the file changed after it was listed; run the same command again")
    return hashlib.sha256(data).hexdigest(), data


def load_item(
    shard: ShardKey,
    image: CaptionedImage,
    prepare: Prepare,
    pixel_limit: int,
    exif: bool = False,
    decode_memory: int = 1 << 30,
) -> tuple[ImageItem, PreparedImage | ImageFailure]:
    """Load and prepare one image with its given boxes, or return its failure.

    Wait before decoding while the images that other threads decode and prepare take up `decode_memory` bytes.
    """
    sha256 = ""
    try:
        sha256, data = _read_encoded(image.ref, pixel_limit)
        with DECODE_MEMORY.reserve(working_bytes(data), decode_memory):
            pixels = decode_image(data, pixel_limit, exif)
            boxes = check_inside(image.boxes, *pixels.shape[:2]) if image.boxes else None
            prepared = prepare(image.ref.img_id, pixels)
            del pixels  # before another thread may decode
        return ImageItem(shard, image, sha256), prepared if boxes is None else replace(prepared, boxes=boxes)
    except ImageFailure as failure:  # its traceback holds the pixels
        return ImageItem(shard, image, sha256), ImageFailure(failure.stage, failure.reason)
    except Exception as error:  # an image that breaks a library must not fail its batch
        return ImageItem(shard, image, sha256), ImageFailure("decode", f"{type(error).__name__}: {error}")


class _LoadShard(beam.DoFn):
    """Holds back a shard until the next one is known, so that the detector does not wait between the two."""

    def __init__(
        self,
        folder: str,
        prepare: Prepare,
        pixel_limit: int,
        batch_size: Callable[[], int],
        exif: bool,
        decode_memory: int,
    ) -> None:
        self._folder, self._prepare, self._batch_size = folder, prepare, batch_size
        self._pixel_limit, self._exif, self._decode_memory = pixel_limit, exif, decode_memory
        self._loader: BatchLoader | None = None

    def setup(self) -> None:
        self._suspects: set[ShardKey] = set()
        self._marks: list[str] = []
        self._trial = Trial()
        self._earlier = EarlierShards()

    def process(self, element: tuple[ShardKey, Iterable[CaptionedImage]]) -> Iterator[ImageBatch]:
        shard, images = ShardKey(*element[0]), list(element[1])
        if self._loader is None:
            self._loader = BatchLoader(self._load, self._batch_size())
        mark, is_suspect = begin(self._folder, shard)
        self._marks.append(mark)
        if is_suspect:
            self._suspects.add(shard)
        self._earlier.add(shard.filename, images)
        self._loader.add(shard, images)
        if self._loader.shards > 1:
            shutdown.check()
            yield from self._loader.batches()

    def _load(self, shard: ShardKey, image: CaptionedImage) -> Loaded:
        if image.earlier:
            taken = self._earlier.take(shard.filename, image, image.earlier)
            if taken and (not image.earlier.sha256 or self._is_same(image, image.earlier.sha256)):
                return ImageItem(shard, image, taken[0]), taken[1]
        if shard in self._suspects:
            try:
                self._trial.survive(read_image, image.ref, self._pixel_limit, self._exif)
            except ImageFailure as failure:
                return ImageItem(shard, image, ""), failure
        return load_item(shard, image, self._prepare, self._pixel_limit, self._exif, self._decode_memory)

    def _is_same(self, image: CaptionedImage, sha256: str) -> bool:
        try:
            return _read_encoded(image.ref, self._pixel_limit)[0] == sha256
        except ImageFailure:
            return False  # loading it says why

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._loader is not None and self._loader.shards:
            shutdown.check()
            for batch in self._loader.batches():
                yield GlobalWindows.windowed_value(batch)
        self._close()

    def start_bundle(self) -> None:
        self._close()

    def teardown(self) -> None:
        self._close()
        self._trial.close()

    def _close(self) -> None:
        files.delete_files(self._marks)
        self._marks.clear()
        self._earlier = EarlierShards()
        if self._loader is not None:
            self._loader.close()
            self._loader = None


@dataclass
class LoadImages(beam.PTransform):
    """(shard, images) -> batches of (ImageItem, PreparedImage | TakenRecord | ImageFailure), each of one shard.

    Attributes:
        folder: of the shards, which are marked there as begun.
        prepare: the detector's preprocessing, run in the reader threads.
        pixel_limit: largest allowed width x height.
        batch_size: returns the images per batch; called on the worker, whose device decides.
        exif: rotate images by their EXIF orientation.
        decode_memory: bytes of a process for the images that it decodes at once; a larger image is decoded alone.
    """

    folder: str
    prepare: Prepare
    pixel_limit: int
    batch_size: Callable[[], int]
    exif: bool = False
    decode_memory: int = 1 << 30

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Load each shard."""
        load = _LoadShard(self.folder, self.prepare, self.pixel_limit, self.batch_size, self.exif, self.decode_memory)
        return shards | "LoadShard" >> beam.ParDo(load).with_output_types(ImageBatch)
