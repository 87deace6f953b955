"""The flags: ours into one frozen Config, Beam's own passed through, anything else an error."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipeline.usage import Parser, UsageError
from region_features.lmdb_store.value_codecs import VALUE_CODECS, VOLTA
from region_features.records.settings import CPU_PRECISIONS, FLOAT32, PRECISIONS, SelectionRule

OUTPUTS = ("tfrecord", "captions", "lmdb", "tsv", "negatives")
DEFAULT_OUTPUTS = ("tfrecord", "captions", "lmdb")
_SOURCES = ("corpus", "images", "import_tsv", "import_lmdb")
PIXEL_LIMIT = 89_000_000


@dataclass(frozen=True)
class Config:
    """What the user asked for.

    Attributes:
        corpus: COCO folder, None with `images`.
        images: patterns, folders, list files; empty with `corpus`.
        captions, test1k_ids: files, None where not given.
        weights: weights file or its address, None where nothing is to be detected.
        output: the run's folder.
        outputs: what to make, of OUTPUTS; None for what the input allows.
        boxes: how many boxes an image gets.
        num_shards: shards per set, None for about 256 images a shard.
        batch_size: images a batch, None for what suits the device.
        device: `auto`, `cpu` or `cuda`.
        precision: of the network, of PRECISIONS.
        model_copies: networks that the processes of a machine share, None for one in each process.
        failure_threshold: largest allowed share of failed images.
        pixel_limit: largest allowed width x height.
        retry_failed: redo the shards that hold failures.
        overwrite: start afresh.
        given_boxes: file of boxes to describe, None for the network's own proposals.
        detector_config: detectron2 config of the network, None for bottom-up attention's.
        exif: turn images as their EXIF orientation says.
        lmdb_form: of the LMDBs' values, one of lmdb_forms.VALUE_CODECS.
        tsv_columns: 10, as LXMERT reads, or 13.
        negatives_pool: images a row of the hard negatives, its own included.
        import_tsv: patterns of old TSVs in place of images; empty where none.
        import_lmdb: an old LMDB in place of images, None where none.
    """

    corpus: str | None
    images: tuple[str, ...]
    captions: str | None
    test1k_ids: str | None
    weights: str | None
    output: str
    outputs: tuple[str, ...] | None
    boxes: SelectionRule
    num_shards: int | None
    batch_size: int | None
    device: str
    failure_threshold: float
    pixel_limit: int
    retry_failed: bool
    overwrite: bool
    given_boxes: str | None = None
    detector_config: str | None = None
    exif: bool = False
    precision: str = FLOAT32
    model_copies: int | None = None
    lmdb_form: str = VOLTA
    tsv_columns: int = 13
    negatives_pool: int = 100
    import_tsv: tuple[str, ...] = ()
    import_lmdb: str | None = None

    @property
    def imports(self) -> bool:
        """Whether records are read that older programs computed."""
        return bool(self.import_tsv or self.import_lmdb)


def parse_args(argv: Sequence[str]) -> tuple[Config, list[str]]:
    """Split the command line.

    Returns:
        Our Config, and the flags that are Beam's own.

    Raises:
        UsageError: wrong use, in one line.
        SystemExit: after --help.
    """
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    _check_beam_flags(parser, rest)
    if args.output is None:
        raise UsageError("--output DIR is missing: where everything is written; see --help")
    outputs = _parse_outputs(args.outputs) if args.outputs is not None else None
    detects = outputs is None or "tfrecord" in outputs
    sources = [name for name in _SOURCES if getattr(args, name) is not None]
    if len(sources) > 1:
        both = " and ".join(f"--{name}" for name in sources)
        raise UsageError(f"expected one of {', '.join(f'--{name}' for name in _SOURCES)}, got {both}; see --help")
    if detects and not sources:
        raise UsageError("expected --corpus DIR or --images PATTERN ...: what to read; see --help")
    if detects and args.weights is None and not {"import_tsv", "import_lmdb"} & set(sources):
        raise UsageError("--weights FILE is missing: the network's weights; see README, 'Weights'")
    try:
        boxes = SelectionRule(args.min_boxes, args.max_boxes, args.conf_threshold)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if args.boxes is not None and boxes != SelectionRule():
        raise UsageError(
            "--boxes: every box given is described: expected no --min_boxes, --max_boxes or --conf_threshold beside it"
        )
    if args.device == "cpu" and args.precision not in CPU_PRECISIONS:
        raise UsageError(f"--precision {args.precision}: --device cpu does {' or '.join(CPU_PRECISIONS)} only")
    aside = [name for name in ("boxes", "detector_config", "exif") if getattr(args, name)]
    if aside and {"import_tsv", "import_lmdb"} & set(sources):
        raise UsageError(f"--{aside[0]}: imported records are taken as they are: expected --images or --corpus")
    return Config(
        corpus=args.corpus,
        images=tuple(args.images or ()),
        captions=args.captions,
        test1k_ids=args.test1k_ids,
        weights=args.weights,
        output=args.output,
        outputs=outputs,
        boxes=boxes,
        num_shards=args.num_shards,
        batch_size=args.batch_size,
        device=args.device,
        failure_threshold=args.failure_threshold,
        pixel_limit=args.pixel_limit,
        retry_failed=args.retry_failed,
        overwrite=args.overwrite,
        given_boxes=args.boxes,
        detector_config=args.detector_config,
        exif=args.exif,
        precision=args.precision,
        model_copies=args.model_copies,
        lmdb_form=args.lmdb_form,
        tsv_columns=args.tsv_columns,
        negatives_pool=args.negatives_pool,
        import_tsv=tuple(args.import_tsv or ()),
        import_lmdb=args.import_lmdb,
    ), rest


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m beam_pipeline",
        allow_abbrev=False,
        description="Turn MS COCO, or any image set, into region features for vision-and-language models.",
        epilog="All of Beam's own flags pass through, e.g. --runner=DataflowRunner. "
        "Exit status: 0 done, 1 the run failed, 2 wrong use.",
    )
    add = parser.add_argument
    add("--corpus", type=_path, metavar="DIR", help="folder of images/{train2014,val2014,test2015}, dataset_coco.json")
    add("--images", type=_path, metavar="SOURCE", nargs="+", help="globs, folders, zips, .txt files of URIs")
    add("--import_tsv", type=_path, metavar="FILE", nargs="+", help="old scripts' TSVs in place of images; no weights")
    add("--import_lmdb", type=_path, metavar="DIR", help="an LMDB of VOLTA's form in place of images; no weights")
    add("--captions", type=_path, metavar="FILE", help="Karpathy's dataset_coco.json (default: the corpus's own)")
    add("--test1k_ids", type=_path, metavar="FILE", help="coco ids of the 1K test set (default: test1k_ids.txt there)")
    add("--weights", type=_path, metavar="FILE", help="the network's weights: local, gs:// or https://...[#sha256=HEX]")
    add("--output", type=_path, metavar="DIR", help="where everything is written; local or gs://")
    add("--outputs", metavar="LIST", help=f"some of {','.join(OUTPUTS)} (default {','.join(DEFAULT_OUTPUTS)})")
    add(
        "--lmdb_form",
        choices=tuple(VALUE_CODECS),
        default=VOLTA,
        help="of the LMDBs' values (default volta: its reader's)",
    )
    add("--tsv_columns", type=int, choices=(10, 13), default=13, help="of the TSVs; LXMERT reads 10 (default 13)")
    add("--negatives_pool", type=_positive, default=100, metavar="N", help="images a hard negatives' row (default 100)")
    add("--min_boxes", type=_positive, default=36, metavar="N", help="fewest boxes an image (default 36)")
    add("--max_boxes", type=_positive, default=36, metavar="N", help="most boxes an image (default 36)")
    add("--conf_threshold", type=float, default=0.2, metavar="P", help="confidence that makes a box (default 0.2)")
    add("--boxes", type=_path, metavar="FILE", help="JSON lines of img_id and boxes to describe; no proposals then")
    add("--detector_config", type=_path, metavar="FILE", help="config of another detectron2 R-CNN, or its zoo name")
    add("--exif", action="store_true", help="turn images as their EXIF orientation says; boxes are in turned pixels")
    add("--num_shards", type=_positive, metavar="N", help="shards per set (default: about 256 images a shard)")
    add("--batch_size", type=_positive, metavar="N", help="images a batch (default 8, on a GPU 32)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the network runs (default auto)")
    add("--precision", choices=PRECISIONS, default=FLOAT32, help="of the network, see README (default float32)")
    add("--model_copies", type=_positive, metavar="N", help="networks all processes of a machine share (default: own)")
    add("--failure_threshold", type=_share, default=0.01, metavar="P", help="allowed share of failures (default 0.01)")
    add("--pixel_limit", type=_positive, default=PIXEL_LIMIT, metavar="N", help="most pixels an image (default 89e6)")
    add("--retry_failed", action="store_true", help="redo the shards that hold failures")
    add("--overwrite", action="store_true", help="delete what an earlier run wrote to --output and start afresh")
    return parser


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got nothing; is a variable of your shell unset?")
    return text


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, got {text!r}")
    return value


def _parse_outputs(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in OUTPUTS:
            near = difflib.get_close_matches(name, OUTPUTS, n=1, cutoff=0.0)[0]
            raise UsageError(f"--outputs: expected some of {','.join(OUTPUTS)}, got {name!r}; did you mean {near}?")
    if not names:
        raise UsageError(f"--outputs: expected some of {','.join(OUTPUTS)}, got nothing")
    return tuple(name for name in OUTPUTS if name in names)


def _check_beam_flags(ours: argparse.ArgumentParser, rest: Sequence[str]) -> None:
    """Refuse what is neither ours nor Beam's, naming the nearest known flag."""
    beam_parser = _beam_parser()
    _, unknown = beam_parser.parse_known_args(list(rest))
    if not unknown:
        return
    flag = unknown[0].partition("=")[0]
    if not flag.startswith("-"):
        raise UsageError(f"expected a flag, got {flag!r}; quote patterns, and give several images after one --images")
    known = [*ours._option_string_actions, *beam_parser._option_string_actions]
    near = difflib.get_close_matches(flag.lstrip("-"), [name.lstrip("-") for name in known], n=1, cutoff=0.6)
    hint = f"; did you mean --{near[0]}?" if near else "; see --help"
    raise UsageError(f"unknown flag {flag}{hint}")


def _beam_parser() -> argparse.ArgumentParser:
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = Parser(allow_abbrev=False, add_help=False, conflict_handler="resolve")
    pending: list[Any] = [PipelineOptions]
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        if "_add_argparse_args" in vars(cls):
            cls._add_argparse_args(parser)
    return parser
