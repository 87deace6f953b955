"""`python -m beam_pipeline.rebuild ROOT [flags of a run]`: the next version of a corpus, on a schedule."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipeline.commit import delete_temporaries
from beam_pipeline.flags.worker_paths import workers_of
from beam_pipeline.output_lock import LOCK_FILES, lock_output
from beam_pipeline.pipeline import run_job, silence_beam
from beam_pipeline.preflight.dry_run import describe_dry_run
from beam_pipeline.preflight.job import AnotherRunError, Job, check
from beam_pipeline.process import Stopped, end
from beam_pipeline.progress.console import console, note, run_spoken
from beam_pipeline.rebuild.change import what_changed
from beam_pipeline.rebuild.cleaning import delete_versions, outdated_versions
from beam_pipeline.rebuild.flags import Options, config_of_version, parse_options
from beam_pipeline.rebuild.source import choose_source, settings_of
from beam_pipeline.rebuild.versions import Latest, Versions
from beam_pipeline.runner import new_run
from beam_pipeline.usage import UsageError, one_line
from region_features.records.prepared_image import Prepare
from transforms import files
from transforms.beam_private import ModelHandler
from transforms.local_copies import keep_copies


@dataclass(frozen=True)
class Attempt:
    """A version that a rebuild may make.

    Attributes:
        version: its name.
        job: its checked run.
        source: name of the version whose records it takes over, None for none.
    """

    version: str
    job: Job
    source: str | None


@keep_copies(note)
def rebuild(options: Options, handler: ModelHandler | None = None, prepare_image: Prepare | None = None) -> int:
    """Make the next version, or none where nothing changed.

    Args:
        options: the command line.
        handler: what detects, in place of the network.
        prepare_image: the handler's preprocessing.

    Returns:
        Exit status: 0 done, 1 the run failed.

    Raises:
        UsageError: wrong use, or another rebuild is at work.
        ValueError, OSError: with one line for the user.
        Stopped: by Ctrl-C or SIGTERM.
    """
    versions = Versions(options.root)
    config, beam_flags = config_of_version(options, versions.folder("new"), None)
    if config.dry_run:
        latest = versions.read_latest()
        print(describe_dry_run(_plan(options, versions, latest, _unfinished(versions, latest)).job))
        return 0
    run = new_run(beam_flags)
    with lock_output(options.root, "ROOT "):
        files.delete_temporaries(options.root, spare=LOCK_FILES)
        latest = versions.read_latest()
        manifest = versions.read_manifest(latest) if latest else None
        unfinished = _unfinished(versions, latest)
        attempt = _plan(options, versions, latest, unfinished)
        change = what_changed(attempt.job, manifest) if manifest else "the first version"
        if latest and change is None and not options.checksum:
            return _end_unchanged(options, versions, latest, unfinished)
        note(f"version {attempt.version}: {change or 'every image is compared'}")
        given_up = [name for name in unfinished if name not in (attempt.version, attempt.source)]
        delete_versions(versions, given_up, note)
        with lock_output(versions.folder(attempt.version), ""):
            whole = versions.find_manifest(attempt.version)
            status = 0
            if whole is not None and what_changed(attempt.job, whole) is None:
                delete_temporaries(attempt.job)  # a rebuild ended between its manifest and latest.json
            else:
                status = run_job(run, attempt.job, handler, prepare_image)
        if status:
            return status
        if latest and change is None and _computed(versions, attempt.version) == 0:
            return _end_unchanged(options, versions, latest, [*unfinished, attempt.version])
        versions.replace_latest(attempt.version, latest)
        console().summarize([f"{options.root}: version {attempt.version} is the latest"])
        delete_versions(versions, [name for name in unfinished if name == attempt.source], note)
        _delete_outdated(options, versions, attempt.version)
    return 0


def _unfinished(versions: Versions, latest: Latest | None) -> list[str]:
    """List the versions that were begun after the latest whole one."""
    return [name for name in versions.names() if latest is None or name > latest.version]


def _end_unchanged(options: Options, versions: Versions, latest: Latest, unfinished: Sequence[str]) -> int:
    console().summarize([f"{options.root}: nothing changed since version {latest.version}, which stays the latest"])
    delete_versions(versions, dict.fromkeys(unfinished), note)
    _delete_outdated(options, versions, latest.version)
    return 0


def _computed(versions: Versions, version: str) -> int | None:
    """Return how many records of a whole version were computed, and not taken over."""
    manifest = versions.find_manifest(version)
    return manifest["counts"]["computed"] if manifest else None


def _plan(options: Options, versions: Versions, latest: Latest | None, unfinished: Sequence[str]) -> Attempt:
    """Check the run that goes on with the newest unfinished version, else that of a new one."""
    names = [*([latest.version] if latest else []), *unfinished]
    settings = None
    if unfinished:
        source = choose_source(versions, names[:-1], settings_of(versions, names[-1]))
        try:
            return _check(options, versions, names[-1], source)
        except AnotherRunError as error:
            note(f"the unfinished version {names[-1]} cannot go on: {error.change}")
            settings = error.settings
    return _check(options, versions, versions.new_name(), choose_source(versions, names, settings))


def _check(options: Options, versions: Versions, version: str, source: str | None) -> Attempt:
    config, beam_flags = config_of_version(
        options, versions.folder(version), versions.folder(source) if source else None
    )
    return Attempt(version, check(config, workers_of(beam_flags)), source)


def _delete_outdated(options: Options, versions: Versions, latest: str) -> None:
    if options.keep_versions is not None:
        delete_versions(versions, outdated_versions(versions, latest, options.keep_versions), note)


def main(argv: Sequence[str], handler: ModelHandler | None = None, prepare_image: Prepare | None = None) -> int:
    """Run the command.

    Args:
        argv: the command line without the command's name.
        handler: what detects, in place of the network.
        prepare_image: the handler's preprocessing.

    Returns:
        Exit status: 0 done or nothing changed, 1 the run failed, 2 wrong use.
    """
    silence_beam()
    try:
        options = parse_options(argv)
        # Wrong flags are refused before all else.
        config, _ = config_of_version(options, Versions(options.root).folder("new"), None)

        def run() -> int:
            try:
                return rebuild(options, handler, prepare_image)
            except UsageError:
                raise
            except (ValueError, OSError) as error:
                console().fail("rebuild", one_line(error))
                return 1

        return run_spoken("rebuild", config.quiet, config.log_json, run)
    except Stopped as stopped:
        end(stopped.status, str(stopped))
    except UsageError as error:
        print(f"rebuild: {one_line(error)}", file=sys.stderr)
        return 2
