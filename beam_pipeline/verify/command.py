"""`python -m beam_pipeline.verify OUT`: is everything in an output folder whole, true and in agreement?"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from beam_pipeline.exports import EXPORT_NAMES
from beam_pipeline.flags.types import path
from beam_pipeline.preflight.output_folder import OutputFolder, PublishedShard, open_output
from beam_pipeline.progress.run_progress import show_count
from beam_pipeline.progress.summary import counted
from beam_pipeline.usage import Parser, UsageError, one_line, printable
from beam_pipeline.verify.digests import check_digests, check_manifest_digest
from beam_pipeline.verify.exports import OpenTarget, check_rest, open_targets
from beam_pipeline.verify.files import check_annotations, check_failures, check_manifest, check_plan
from beam_pipeline.verify.inputs import check_inputs
from beam_pipeline.verify.listings import check_listings
from beam_pipeline.verify.shards import ShardReport, verify_shard
from beam_pipeline.verify.strays import find_strays
from region_features.allocation import keep_freed_blocks
from region_features.records.audit import audit_shards
from region_features.records.plan import Plan
from region_features.validation.record import Problem, check_order
from transforms import files

_SHOWN_PER_KIND = 20
# Reading and hashing leave the interpreter free for each other; more than this only takes memory.
_THREADS = min(8, 2 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Report:
    """What was checked, and what is wrong.

    Attributes:
        records, shards: how many were read.
        compared: export -> how many of its targets were compared.
        notes: what the user should know.
        problems: what is wrong.
    """

    records: int
    shards: int
    compared: Mapping[str, int]
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


def verify(output: str, inputs: bool = False) -> Report:
    """Check everything in an output folder.

    Args:
        output: the folder, local or remote.
        inputs: compare the images, captions and given boxes with what was read of them, too.

    Raises:
        UsageError: no run wrote to it.
    """
    keep_freed_blocks()
    folder = open_output(output)
    plan = folder.plan or Plan({}, {})
    audit = audit_shards(plan, folder.stats, 1.0)
    problems = [*folder.problems, *check_plan(folder), *check_manifest(folder, audit), *check_failures(folder, audit)]
    problems += [*check_manifest_digest(folder), *check_digests(folder, _THREADS), *check_listings(folder, _THREADS)]
    strays = find_strays(folder)
    problems += strays.problems
    problems += check_inputs(folder, _THREADS) if inputs else ()
    targets, wrong_targets = open_targets(folder, audit)
    problems.extend(wrong_targets)
    reports = _read_shards(folder, targets, _max_boxes(plan))
    problems.extend(problem for report in reports for problem in report.problems)
    problems.extend(_check_sets(reports))
    for target in targets:
        problems.extend(check_rest(target, folder, reports))
    problems.extend(check_annotations(folder, reports))
    return Report(
        records=sum(len(report.ids) for report in reports),
        shards=len(reports),
        compared=Counter(target.export.name for target in targets),
        notes=(*_notes(folder), *strays.notes()),
        problems=tuple(problems),
    )


def _max_boxes(plan: Plan) -> int | None:
    """The settings' limit, where the network chose the boxes: given or imported ones are as many as they are."""
    limit = plan.settings.get("max_boxes")
    chosen = plan.settings.get("weights_sha256") and "boxes_sha256" not in plan.settings
    return limit if chosen and isinstance(limit, int) else None


def _read_shards(folder: OutputFolder, targets: Sequence[OpenTarget], max_boxes: int | None) -> list[ShardReport]:
    def read(shard: PublishedShard) -> ShardReport:
        copies = [target.copy for target in targets if shard.set_name in target.target.sets]
        return verify_shard(shard, files.join(folder.layout.shards, shard.name), copies, max_boxes)

    with ThreadPoolExecutor(_THREADS) as pool:
        read_shards = pool.map(read, folder.shards.values())
        return list(show_count(read_shards, "reading shards", " shards", len(folder.shards)))


def _check_sets(reports: Sequence[ShardReport]) -> Iterator[Problem]:
    """Check order, duplicates, and that there is one feature width, over the shards of each set."""
    sets: dict[str, list[ShardReport]] = {}
    for report in reports:
        sets.setdefault(report.set_name, []).append(report)
    widths: dict[int, str] = {}
    for members in sets.values():
        yield from check_order((report.shard, img_id) for report in members for img_id in report.ids)
        for report in members:
            for width, img_id in report.widths.items():
                widths.setdefault(width, f"{img_id} in {report.shard}")
    if len(widths) > 1:
        examples = ", ".join(f"{width} ({where})" for width, where in sorted(widths.items()))
        yield Problem("shapes", f"features: expected one width in all shards, got {examples}")


def _notes(folder: OutputFolder) -> Iterator[str]:
    if files.is_remote(folder.layout.output) and folder.manifest:
        remote = [name for name in EXPORT_NAMES if folder.manifest["files"].get(name)]
        if remote:
            what = f"the outputs {', '.join(remote)} are remote"
            yield f"{what}, and only their sizes were checked; copy OUT to a local disk for more"


def problem_lines(problems: Iterable[Problem]) -> Iterator[str]:
    """Return one line a problem, the first 20 of each kind, then how many more there are."""
    shown: Counter[str] = Counter()
    for problem in problems:
        shown[problem.kind] += 1
        if shown[problem.kind] <= _SHOWN_PER_KIND:
            yield f"{problem.kind}: {one_line(problem.message)}"
    for kind, count in shown.items():
        if count > _SHOWN_PER_KIND:
            yield f"{kind}: and {count - _SHOWN_PER_KIND} more"


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        Exit status: 0 all is well, 1 something is wrong, 2 wrong use.
    """
    parser = Parser(
        prog="python -m beam_pipeline.verify",
        description="Check a run's output: shards, plan, manifest, annotation files, and every export against the "
        "shards. Exit status: 0 all is well, 1 something is wrong, 2 wrong use.",
    )
    parser.add_argument("output", metavar="OUT", type=path, help="the --output of a run, local or gs://")
    parser.add_argument(
        "--inputs", action="store_true", help="compare the images, captions and given boxes, too, with what was read"
    )
    try:
        args = parser.parse_args(argv)
        output = args.output
        report = verify(output, args.inputs)
    except UsageError as error:
        print(f"verify: {one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"verify: cannot read on: {one_line(error)}", file=sys.stderr)
        return 1
    for line in problem_lines(report.problems):
        print(line)
    for note in report.notes:
        print(f"note: {printable(note)}")
    exports = ", ".join(f"{count} {name}" for name, count in report.compared.items())
    compared = f", compared with {exports}" if exports else ""
    verdict = counted(len(report.problems), "problem") if report.problems else "nothing wrong"
    counts = f"{counted(report.records, 'record')} in {counted(report.shards, 'shard')}{compared}"
    print(printable(f"{output}: {counts}: {verdict}"))
    return 1 if report.problems else 0
