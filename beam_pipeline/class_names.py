"""The class names of an output's records: the user's own, those of its detectron2 network, or Visual Genome's."""

from __future__ import annotations

from beam_pipeline.preflight.output_folder import OutputFolder
from beam_pipeline.usage import UsageError
from region_features.names import ClassNames, parse_names, visual_genome
from region_features.records.region_record import RegionRecord
from transforms import files


def choose_names(folder: OutputFolder, record: RegionRecord, names_file: str | None) -> ClassNames | None:
    """Return the names of a record's classes; None if they are not known.

    Args:
        folder: the output that holds the record.
        record: of any of its images.
        names_file: the user's own names of the objects, a class a line; attributes then have no names.

    Raises:
        UsageError: the user's names cannot be read, are not those of the record's network, or no names at all.
    """
    if names_file:
        given = _read_names(names_file)
        if not given.fit(record):
            classes = record.cls_prob.shape[1] - 1
            got = f"a network of {classes} classes" if classes > 0 else f"a class {record.objects_id.max(initial=0)}"
            raise UsageError(
                f"--names {names_file}: expected a line for each class of the network, got {len(given.objects)} lines "
                f"for {got}; name the file of this network's classes"
            )
        return given
    names = _names_of_run(folder)
    return names if names and names.fit(record) else None


def _read_names(path: str) -> ClassNames:
    try:
        return ClassNames(parse_names(files.read_bytes(path).decode(), path))
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--names {path}: expected UTF-8 text, a name a line, got the byte {error.object[error.start]:#04x}"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"--names {path}: expected a readable file, got: {reason}; check the path") from error


def _names_of_run(folder: OutputFolder) -> ClassNames | None:
    """Return Visual Genome's names, or those that the manifest has of another network."""
    if "detector_config_sha256" not in folder.settings:
        return visual_genome()
    names = (folder.manifest or {}).get("detector_config", {}).get("object_names")
    return ClassNames(tuple((str(name),) for name in names)) if names else None
