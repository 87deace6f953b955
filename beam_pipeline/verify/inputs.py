"""The inputs as they are now against what the records were made of: `verify --inputs`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from beam_pipeline.preflight.output_folder import OutputFolder
from region_features.records.plan import ImageRef
from region_features.validation.record import Problem
from transforms.input_files import FileState, content_sha256, find_states


def check_inputs(output: OutputFolder, threads: int) -> Iterator[Problem]:
    """Compare each image, captions and given boxes with what the run read; rows of imported files are left out.

    An image whose size and version are as planned counts as unchanged; one with another version is read.
    """
    plan = output.plan
    if plan is None:
        return
    manifest = output.manifest or {}
    captions, boxes = manifest.get("inputs", {}).get("captions"), manifest.get("boxes", {}).get("file")
    for file, setting in ((captions, "captions_sha256"), (boxes, "boxes_sha256")):
        if file and plan.settings.get(setting):
            yield from _check_content(file, plan.settings[setting])
    if plan.settings.get("imported"):
        return
    refs = {ref.uri: ref for images in plan.shards.values() for ref in images}
    recorded = {
        (key.set_name, img_id): sha256
        for key, stats in output.stats.items()
        for img_id, sha256 in stats.image_sha256.items()
    }
    unread = {failure.uri for stats in output.stats.values() for failure in stats.failures}
    to_read: list[tuple[ImageRef, str]] = []
    for uri, state in find_states(list(refs)):
        ref = refs[uri]
        sha256 = recorded.get((ref.set_name, ref.img_id))
        if state == FileState(ref.size, ref.version):
            continue
        if sha256 is None:
            if uri in unread:
                message = "expected the file that could not be read, got another; the run's command reads it again"
                yield Problem("inputs", f"{uri}: {message}")
        elif state.size != ref.size:
            got = f"{state.size} bytes" if state.size >= 0 else "no file"
            yield Problem("inputs", f"{uri}: expected the image of {ref.size} bytes that was read, got {got}")
        else:
            to_read.append((ref, sha256))
    with ThreadPoolExecutor(threads) as pool:
        for problems in pool.map(lambda image: list(_check_content(image[0].uri, image[1])), to_read):
            yield from problems


def _check_content(uri: str, sha256: str) -> Iterator[Problem]:
    try:
        actual = content_sha256(uri)
    except (OSError, ValueError) as error:
        yield Problem("inputs", f"{uri}: cannot be read: {error}")
        return
    if actual != sha256:
        yield Problem("inputs", f"{uri}: expected the content that was read (SHA-256 {sha256}), got {actual}")
