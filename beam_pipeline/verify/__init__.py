"""`python -m beam_pipeline.verify OUT`: is everything in an output folder whole, true and in agreement?"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from beam_pipeline.output_folder import OutputFolder, Shard, open_output
from beam_pipeline.usage import Parser, UsageError
from beam_pipeline.verify.exports import TsvFile, check_hard_negatives, check_tsv_ids, open_tsvs
from beam_pipeline.verify.files import (
    check_annotations,
    check_failures,
    check_lmdb_keys,
    check_lmdb_source,
    check_manifest,
    check_plan,
    lmdb_folders,
)
from beam_pipeline.verify.shards import Finding, verify_shard
from region_features.lmdb_store.reader import LmdbReader
from region_features.records.coco import lmdb_name
from region_features.records.key import lmdb_key
from region_features.records.plan import Plan
from region_features.validation.record import Problem, check_order
from transforms import files
from transforms.manifest import audit_shards

_SHOWN_PER_KIND = 20
# Reading and hashing leave the interpreter free for each other; more than this only takes memory.
_THREADS = min(8, 2 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is wrong."""

    records: int
    shards: int
    lmdbs: int
    tsvs: int
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


def verify(output: str) -> Report:
    """Look at everything in an output folder.

    Raises:
        UsageError: no run wrote to it.
    """
    # See transforms/lmdb_file.py: otherwise every block of a record's size is faulted in anew.
    bytearray(24 << 20)
    found = open_output(output)
    plan = found.plan or Plan({}, {})
    audit = audit_shards(plan, found.stats, 1.0)
    problems = [*found.problems, *check_plan(found), *check_manifest(found, audit), *check_failures(found, audit)]
    lmdbs: dict[str, LmdbReader] = {}
    folders = lmdb_folders(found)
    for folder in folders:
        name = folder.removesuffix("_feat.lmdb")
        path = os.path.join(found.paths.lmdbs, folder)
        wrong = list(check_lmdb_source(path, audit.lmdbs[name][1] if name in audit.lmdbs else None))
        problems.extend(wrong)
        if not wrong:  # of a stale one each record would be told
            try:
                lmdbs[name] = LmdbReader(path)
            except ValueError as error:
                problems.append(Problem("lmdb", str(error)))
    tsvs, wrong_tsvs = open_tsvs(found, audit)
    problems.extend(wrong_tsvs)
    findings = _read_shards(found, lmdbs, tsvs, _max_boxes(plan))
    problems.extend(problem for finding in findings for problem in finding.problems)
    problems.extend(_check_sets(findings))
    for name, lmdb in lmdbs.items():
        problems.extend(check_lmdb_keys(lmdb, _expected_keys(found, findings, name), _records_listed(found, name)))
    for tsv in tsvs.values():
        problems.extend(check_tsv_ids(tsv, findings))
    problems.extend(check_annotations(found, findings))
    problems.extend(check_hard_negatives(found, audit, findings))
    return Report(
        records=sum(len(finding.ids) for finding in findings),
        shards=len(findings),
        lmdbs=len(lmdbs),
        tsvs=len(tsvs),
        notes=tuple(_notes(found)),
        problems=tuple(problems),
    )


def _max_boxes(plan: Plan) -> int | None:
    """The settings' limit, where the network chose the boxes: given or imported ones are as many as they are."""
    given = any(value for name, value in plan.settings.items() if name.startswith("boxes"))
    limit = plan.settings.get("max_boxes")
    return limit if plan.settings.get("weights_sha256") and not given and isinstance(limit, int) else None


def _read_shards(
    found: OutputFolder, lmdbs: Mapping[str, LmdbReader], tsvs: Mapping[str, TsvFile], max_boxes: int | None
) -> list[Finding]:
    def look(shard: Shard) -> Finding:
        path = files.join(found.paths.shards, shard.name)
        lmdb = lmdbs.get(lmdb_name(shard.set_name))
        return verify_shard(shard, path, lmdb, tsvs.get(shard.set_name), max_boxes)

    findings = []
    shown = sys.stderr.isatty()
    with ThreadPoolExecutor(_THREADS) as pool:
        for finding in pool.map(look, found.shards.values()):
            findings.append(finding)
            if shown:
                print(f"\r{len(findings)}/{len(found.shards)} shards\x1b[K", end="", file=sys.stderr, flush=True)
    if shown:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return findings


def _check_sets(findings: Sequence[Finding]) -> Iterator[Problem]:
    """Order, duplicates, and one feature width, over the shards of each set."""
    sets: dict[str, list[Finding]] = {}
    for finding in findings:
        sets.setdefault(finding.set_name, []).append(finding)
    widths: dict[int, str] = {}
    for members in sets.values():
        yield from check_order((one.shard, img_id) for one in members for img_id in one.ids)
        for one in members:
            for width, img_id in one.widths.items():
                widths.setdefault(width, f"{img_id} in {one.shard}")
    if len(widths) > 1:
        told = ", ".join(f"{width} ({where})" for width, where in sorted(widths.items()))
        yield Problem("shapes", f"features: expected one width in all shards, got {told}")


def _expected_keys(found: OutputFolder, findings: Sequence[Finding], name: str) -> list[bytes]:
    ids: list[str] = []
    for finding in findings:
        if lmdb_name(finding.set_name) == name:
            stats = found.shards[finding.shard].stats
            ids.extend(finding.ids if finding.whole or stats is None else stats.ids)
    return [lmdb_key(img_id) for img_id in ids]


def _records_listed(found: OutputFolder, name: str) -> int | None:
    row = found.manifest["files"]["lmdb"].get(f"{name}_feat.lmdb") if found.manifest else None
    return row.get("records") if row else None


def _notes(found: OutputFolder) -> Iterator[str]:
    if files.is_remote(found.paths.output) and found.manifest:
        for section, what in (("lmdb", "LMDBs"), ("tsv", "TSVs")):
            if found.manifest["files"].get(section):
                yield f"the {what} are remote, and only their sizes were checked; copy OUT to a local disk for more"
    left = [name for name in files.list_folder(found.paths.shards) if name.startswith(files.TEMP_PREFIX)]
    if left:
        yield f"{len(left)} unfinished files of a killed or running attempt stand in {found.paths.shards}"


def problem_lines(problems: Iterable[Problem]) -> Iterator[str]:
    """One line a problem, the first 20 of each kind, then how many more there are."""
    shown: Counter[str] = Counter()
    for problem in problems:
        shown[problem.kind] += 1
        if shown[problem.kind] <= _SHOWN_PER_KIND:
            yield f"{problem.kind}: {' '.join(problem.message.split())}"
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
        description="Check a run's output: shards, plan, manifest, LMDBs, TSVs, caption files, hard negatives. "
        "Exit status: 0 all is well, 1 something is wrong, 2 wrong use.",
    )
    parser.add_argument("output", metavar="OUT", help="the --output of a run, local or gs://")
    try:
        output = parser.parse_args(argv).output
        report = verify(output)
    except UsageError as error:
        print(f"verify: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"verify: cannot read on: {error}", file=sys.stderr)
        return 1
    for line in problem_lines(report.problems):
        print(line)
    for note in report.notes:
        print(f"note: {note}")
    tsvs = f" and {report.tsvs} TSVs" if report.tsvs else ""
    verdict = f"{len(report.problems)} problems" if report.problems else "nothing wrong"
    print(
        f"{output}: {report.records} records in {report.shards} shards, {report.lmdbs} LMDBs{tsvs} compared: {verdict}"
    )
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
