"""Pictures for `beam_pipeline.inspect`: find a record's image, draw its regions, write the file."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from beam_pipeline.flags.config import Config
from beam_pipeline.preflight.environment import how_to_install, missing_modules
from beam_pipeline.preflight.output_folder import OutputFolder, PublishedShard
from beam_pipeline.usage import UsageError
from region_features.formats.example import ImageExample
from region_features.names import ClassNames
from region_features.records.failure import ImageFailure
from transforms import files

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class DrawRequest:
    """What the user asked to be drawn.

    Attributes:
        target: the file to write, local or gs://; its ending says PNG or JPEG.
        image: the image's path where the plan does not know it; None to read it where the run did.
        top: at most so many regions, None for all.
        min_confidence: least confidence of an object.
    """

    target: str
    image: str | None
    top: int | None
    min_confidence: float

    def __post_init__(self) -> None:
        if os.path.splitext(self.target)[1].lower() not in _FORMATS:
            raise UsageError(f"--draw {self.target}: expected a name that ends in {', '.join(_FORMATS)}")
        if not files.is_remote(self.target) and os.path.isdir(self.target):
            raise UsageError(f"--draw {self.target}: expected a file to write, got a folder; name a file in it")
        if self.top is not None and self.top < 1:
            raise UsageError(f"--top: expected a number from 1, got {self.top}")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"--min_confidence: expected a number from 0 to 1, got {self.min_confidence}")
        missing = {"cv2", "PIL", "simplejpeg"}.intersection(missing_modules("worker"))
        if missing:
            raise UsageError(f"--draw: {how_to_install('worker', sorted(missing))}")

    def of_set(self, set_name: str) -> DrawRequest:
        """Return the same with the set's name in that of the file."""
        stem, ending = os.path.splitext(self.target)
        return replace(self, target=f"{stem}-{set_name}{ending}")


def draw_image(
    folder: OutputFolder, shard: PublishedShard, example: ImageExample, names: ClassNames | None, request: DrawRequest
) -> str:
    """Draw the regions of one image.

    Returns:
        One line that says what was written.

    Raises:
        UsageError: the image is not known, cannot be read, or is not the one that the regions were found in; or the
            file cannot be written.
    """
    from region_features.drawing.regions import chosen_rows, draw_regions
    from region_features.images.decode import decode_image

    record = example.record
    settings = folder.settings
    uri = request.image or _image_uri(folder, shard, record.img_id)
    try:
        data = files.read_bytes(uri)
        limit = settings.get("pixel_limit", Config.pixel_limit)
        pixels = decode_image(data, limit, bool(settings.get("exif")))
        picture = draw_regions(pixels, record, names, request.top, request.min_confidence)
    except (OSError, ValueError, ImageFailure) as error:
        reason = error.reason if isinstance(error, ImageFailure) else getattr(error, "strerror", None) or str(error)
        hint = "; if the image lies elsewhere now, name it: --image FILE"
        where, what = (f"--image {uri}", "; check the path") if request.image else (uri, hint)
        raise UsageError(f"{where}: expected an image, got: {reason}{what}") from error
    if example.sha256 and hashlib.sha256(data).hexdigest() != example.sha256:
        print(f"inspect: {uri}: is not the file that was read, its sha256 differs", file=sys.stderr)
    encoded = io.BytesIO()
    kind = _FORMATS[os.path.splitext(request.target)[1].lower()]
    picture.save(encoded, kind, **({"quality": _JPEG_QUALITY} if kind == "JPEG" else {}))
    try:
        files.publish_bytes(request.target, [encoded.getvalue()])
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"--draw {request.target}: expected a file to write, got: {reason}; check the path") from error
    drawn = len(chosen_rows(record, request.top, request.min_confidence))
    return f"{request.target}: {drawn} of {record.num_boxes} boxes on {uri}"


def _image_uri(folder: OutputFolder, shard: PublishedShard, img_id: str) -> str:
    """Return where the plan found an image.

    Raises:
        UsageError: the record was imported, or there is no plan.
    """
    if folder.settings.get("imported"):
        raise UsageError(f"image {img_id} was imported without its image; name the image: --image FILE")
    for uri in _planned_uris(folder, shard, img_id):
        return uri
    raise UsageError(f"{folder.layout.plan}: says not where image {img_id} lies; name the image: --image FILE")


def _planned_uris(folder: OutputFolder, shard: PublishedShard, img_id: str) -> Iterator[str]:
    for key, refs in folder.plan.shards.items() if folder.plan else ():
        if key.filename == shard.name:
            yield from (ref.uri for ref in refs if ref.img_id == img_id)
