"""Before any work starts: what is wrong with the exports that the user asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from beam_pipeline.layout import Layout
from beam_pipeline.preflight.environment import how_to_install, missing_modules
from beam_pipeline.usage import UsageError
from region_features.exports.base import Export, Target, require_fields
from region_features.formats.example import decode_example
from region_features.records.plan import Plan
from region_features.records.region_record import RegionRecord
from transforms import files
from transforms.plans import refs_of
from transforms.published import Published
from transforms.shards import read_shard


def check_exports(exports: Sequence[Export], plan: Plan, has_captions: bool) -> None:
    """Refuse exports that this plan does not allow.

    Raises:
        UsageError: two targets would be one file, a format cannot hold the settings or an image, or captions are lost.
    """
    _refuse_clashing_exports(exports, plan)
    if not has_captions:
        _refuse_lost_captions(exports, plan)


def _refuse_clashing_exports(exports: Sequence[Export], plan: Plan) -> None:
    """Refuse two targets that would be one file, and settings and images that a format cannot hold."""
    places: dict[tuple[str, str], tuple[str, Target]] = {}
    sets = plan.set_names
    for export in exports:
        refusal = export.refuse_settings(plan.settings)
        if refusal:
            raise UsageError(f"--outputs {export.name}: it {refusal}; leave {export.name} out of --outputs")
        for target in export.targets(sets, plan.settings):
            for name in target.names:
                other, earlier = places.setdefault((target.folder, name), (export.name, target))
                if earlier is not target:
                    both = f"{export.name} of {', '.join(target.sets)} and {other} of {', '.join(earlier.sets)}"
                    raise UsageError(
                        f"{both} would both be {'/'.join(filter(None, (target.folder, name)))}; rename a folder of the "
                        f"images, or leave {export.name} out of --outputs"
                    )
        holds_any_id = type(export).refuse_id is Export.refuse_id
        for ref in () if holds_any_id else refs_of(plan):
            reason = export.refuse_id(ref.img_id)
            if reason:
                raise UsageError(
                    f"image {ref.uri!r}: the output {export.name} cannot hold {reason}; rename it, or leave "
                    f"{export.name} out of --outputs"
                )


def _refuse_lost_captions(exports: Sequence[Export], plan: Plan) -> None:
    """Refuse to build from captioned shards, without the captions, what holds more where there are captions."""
    for export in exports:
        if export.uses_captions and plan.settings.get("captions_sha256"):
            raise UsageError(
                f"--outputs {export.name}: the shards were made with captions: expected --captions FILE again, so that "
                f"{export.name} names the images that have captions and no record"
            )


def check_records(exports: Sequence[Export], layout: Layout, published: Published) -> None:
    """Refuse exports that need what the records of the shards that are there lack, by the first record with boxes.

    Raises:
        UsageError: names shard, image and field.
    """
    needing = [export for export in exports if export.needs]
    if not needing or not published:
        return
    path = files.join(layout.shards, min(published).filename)
    record = _first_with_boxes(path)
    if record is None:
        return
    try:
        for export in needing:
            require_fields(record, export.needs, path, export.name)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _first_with_boxes(shard: str) -> RegionRecord | None:
    """Read the first record of a shard that has boxes; None if there is none, or the shard is damaged."""
    with contextlib.suppress(ValueError):  # the build meets it, and has the shard made again
        for data in read_shard(shard):
            record = decode_example(data, shard).record
            if record.num_boxes:
                return record
    return None


def check_packages(exports: Sequence[Export]) -> None:
    """Refuse a local run whose outputs need packages that this machine lacks; other machines refuse for themselves.

    Raises:
        UsageError: one is missing; names the outputs.
    """
    needed = {module: export.name for export in exports for module in export.modules}
    missing = [module for module in missing_modules("formats") if module in needed]
    if missing:
        outputs = ",".join(dict.fromkeys(needed[module] for module in missing))
        raise UsageError(f"--outputs {outputs}: {how_to_install('formats', missing)}")
