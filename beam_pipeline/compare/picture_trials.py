"""For `beam_pipeline.compare --images --weights`: how the pictures of two files of features were prepared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from beam_pipeline.preflight.environment import how_to_install, missing_modules
from beam_pipeline.usage import UsageError
from region_features.images.decode import decode_image
from region_features.records.failure import ImageFailure
from region_features.records.key import lmdb_key
from region_features.records.plan import ImageRef
from region_features.records.settings import PIXEL_LIMIT
from transforms import files
from transforms.listing import list_images
from transforms.weights_cache import local_copy

if TYPE_CHECKING:
    from region_features.comparison.trials import Trial
    from region_features.sources.records import Records

_IMAGES = 4


def try_pictures(
    one: Records, other: Records, common: Collection[str], images: Sequence[str], weights: str
) -> tuple[Trial, Trial]:
    """Prepare a few images in every known way, and describe the boxes of A and B in them with the network.

    Args:
        one: A.
        other: B.
        common: LMDB keys of the images that both have.
        images: where images are, as `--images` of a run.
        weights: of the network, in any known format.

    Raises:
        ValueError: none of the images can be used, the weights cannot, or a package is missing.
        OSError: the weights cannot be read.
    """
    missing = missing_modules("worker")
    if missing:
        raise UsageError(f"--images: {how_to_install('worker', missing)}")
    from region_features.comparison.trials import Trial, errors_of
    from region_features.detector import Detector

    usable = set(common)
    uris: dict[str, str] = {}

    def add(_: str, ref: ImageRef) -> bool:
        key = lmdb_key(ref.img_id).decode()
        if key in usable:
            uris.setdefault(key, ref.uri)
        return True

    list_images(images, add)
    if not uris:
        raise UsageError(f"--images {' '.join(images)}: expected images that A and B have, found others only")
    with local_copy(weights) as path:
        network = Detector.load(path)
    errors, problem = [], ""
    for key in sorted(uris):
        try:
            pixels = decode_image(files.read_bytes(uris[key]), PIXEL_LIMIT)
            errors.append([errors_of(network, side.read(key), pixels) for side in (one, other)])
        except (ValueError, OSError, ImageFailure) as error:
            problem = f"{uris[key]}: {error}"
        if len(errors) == _IMAGES:
            break
    if not errors:
        raise UsageError(f"--images: expected images that can be used, found none; the last: {problem}")
    sides = [Trial.of([pair[side] for pair in errors]) for side in range(2)]
    return sides[0], sides[1]
