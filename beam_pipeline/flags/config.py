"""The flags: each declared once, as a field of Config, and what they must not contradict."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from beam_pipeline.exports import DEFAULT_OUTPUTS, OUTPUTS
from beam_pipeline.flags.types import address, amount, outputs, path, positive, share
from beam_pipeline.usage import UsageError
from region_features.formats.imagecaptioning import FORMS, LMDB_FORM
from region_features.lmdb_store.value_codecs import VALUE_CODECS, VOLTA
from region_features.records.coco import CAPTIONS_FILE, IMAGE_SETS, TEST1K_FILE
from region_features.records.settings import FLOAT32, PIXEL_LIMIT, PRECISIONS, SelectionRule, check_cpu_precision

GROUPS = INPUT, OUTPUT, NETWORK, BOXES, RUN = ("input", "output", "network", "boxes", "run")
_SOURCES = {"corpus": "corpus", "images": "images", "import": "import_files"}


def option(
    group: str, help: str, default: Any = None, flag: str = "", aliases: tuple[str, ...] = (), **options: Any
) -> Any:
    """Declare a field of Config, and with it its flag.

    Args:
        group: heading in --help and in docs/flags.md.
        help: what it means, for both.
        default: value where the flag is not given; False makes a switch of it.
        flag: the flag without dashes, where the field has another name.
        aliases: other flags of the same meaning.
        options: of `ArgumentParser.add_argument`: `metavar`, `type`, `nargs`, `choices`.
    """
    return field(
        default=default, metadata={"group": group, "help": help, "flag": flag, "aliases": aliases, "options": options}
    )


_DIR: dict[str, Any] = {"metavar": "DIR", "type": path}
_FILE: dict[str, Any] = {"metavar": "FILE", "type": path}
_ADDRESS: dict[str, Any] = {"metavar": "FILE", "type": address}
_COUNT: dict[str, Any] = {"metavar": "N", "type": positive}


@dataclass(frozen=True)
class Config:
    """What the user asked for, a field a flag."""

    corpus: str | None = option(
        INPUT,
        f"COCO: `images/{{{','.join(IMAGE_SETS)}}}` (any may be missing), `{CAPTIONS_FILE}`, `{TEST1K_FILE}` if there",
        **_DIR,
    )
    images: tuple[str, ...] = option(
        INPUT,
        "in place of `--corpus`: globs, folders, zip archives, single images, or `.txt` files with one URI a line, "
        "where `#` begins a comment",
        (),
        nargs="+",
        metavar="SOURCE",
        type=address,  # refused with what to do
    )
    recursive: bool = option(INPUT, "with `--images`: read the folders in folders, too", False)
    import_files: tuple[str, ...] = option(
        INPUT,
        "in place of images: features that this program or others computed, in any of their formats, told by content: "
        "files, folders, globs; no weights. Other names: `--import_tsv`, `--import_lmdb`",
        (),
        flag="import",
        aliases=("import_tsv", "import_lmdb"),
        nargs="+",
        action="extend",
        **_FILE,
    )
    import_prefix: str = option(
        INPUT,
        "with `--import`: goes before ids that are only a number; default the names that the captions have for them",
        "",
        metavar="TEXT",
    )
    image_sizes: str | None = option(
        INPUT,
        "with `--import`: sizes for files that hold none: COCO's `captions_*.json`, or JSON lines; see docs/import.md",
        **_FILE,
    )
    captions: str | None = option(
        INPUT,
        f"Karpathy's `{CAPTIONS_FILE}` or `dataset_flickr30k.json`, COCO's own `captions_*.json`, or JSON lines of "
        "`img_id` and `sentences`; default the corpus's own",
        **_FILE,
    )
    test1k_ids: str | None = option(INPUT, "coco ids of the 1K test set, one a line; default the corpus's own", **_FILE)
    output: str = option(OUTPUT, "where everything goes, local or `gs://`", "", **_DIR)
    outputs: tuple[str, ...] | None = option(
        OUTPUT,
        f"some of `{','.join(OUTPUTS)}`; default `{','.join(DEFAULT_OUTPUTS)}` as far as the input allows. All but "
        "`tfrecord` are built from whole shards that are there and need no weights; what is current is left alone",
        metavar="LIST",
        type=outputs,
    )
    lmdb_form: str = option(
        OUTPUT,
        "how the LMDBs' values are written; for another form they are built anew, the shards stay",
        VOLTA,
        choices=tuple(VALUE_CODECS),
    )
    tsv_columns: int = option(OUTPUT, "columns of the TSVs; LXMERT reads the first ten", 13, choices=(10, 13), type=int)
    negatives_pool: int = option(OUTPUT, "images a row of the hard negatives, the row's own first", 100, **_COUNT)
    imagecaptioning_form: str = option(
        OUTPUT,
        "`--outputs imagecaptioning` as three LMDBs, or as three files an image",
        LMDB_FORM,
        choices=FORMS,
    )
    uniter_prefix: str = option(
        OUTPUT,
        "begins the names in UNITER's LMDBs, `nlvr2_` for one; default `coco_` in place of the `COCO_` of COCO's names",
        "",
        metavar="TEXT",
    )
    num_shards: int | None = option(OUTPUT, "shards per set; default about 256 images a shard", **_COUNT)
    reuse: str | None = option(
        OUTPUT,
        "an earlier run's `--output`: each record whose image and settings are the same is taken over, only new and "
        "changed images are detected",
        **_DIR,
    )
    checksum: bool = option(
        OUTPUT, "with `--reuse`: compare the content of every image, also where size and time are the same", False
    )
    limit: int | None = option(
        OUTPUT, "take only so many images, evenly spread, for a first try, which the whole run can `--reuse`", **_COUNT
    )
    overwrite: bool = option(OUTPUT, "delete what an earlier run wrote to `--output`, and start afresh", False)
    weights: str | None = option(
        NETWORK, "the network's weights: a local path, `gs://` or `https://...[#sha256=HEX]`", **_ADDRESS
    )
    detector_config: str | None = option(
        NETWORK,
        "detectron2 config of another R-CNN in place of bottom-up attention's, or its name in the model zoo",
        **_FILE,
    )
    device: str = option(
        NETWORK, "where the network runs; `cuda` without a GPU is an error", "auto", choices=("auto", "cpu", "cuda")
    )
    accelerator: str | None = option(
        NETWORK,
        "on Dataflow: the GPU of the machines that run the network, in quotes; other machines have none. "
        "`'type:nvidia-tesla-t4;count:1;install-nvidia-driver:5xx'`",
        metavar="GPU",
        type=path,
    )
    precision: str = option(NETWORK, "arithmetic of the network", FLOAT32, choices=PRECISIONS)
    batch_size: int | None = option(
        NETWORK,
        "images that are read ahead and given to the network together; default 8, on a GPU 32; on a CPU the result "
        "does not depend on it",
        **_COUNT,
    )
    model_copies: int | None = option(
        NETWORK, "networks for all worker processes of a machine together; default one in each process", **_COUNT
    )
    min_boxes: int = option(BOXES, "fewest boxes an image", 36, **_COUNT)
    max_boxes: int = option(BOXES, "most boxes an image; 10 and 100 are the adaptive model's", 36, **_COUNT)
    conf_threshold: float = option(
        BOXES,
        "an image gets its boxes over this confidence, within `--min_boxes` and `--max_boxes`",
        0.2,
        metavar="P",
        type=share,
    )
    given_boxes: str | None = option(
        BOXES,
        "JSON lines of `img_id` and `boxes` to describe in place of the network's own proposals",
        flag="boxes",
        **_FILE,
    )
    exif: bool = option(
        BOXES,
        "turn images as their EXIF orientation says, before everything; sizes and boxes are those of the turned image",
        False,
    )
    failure_threshold: float = option(
        RUN,
        "a larger share of failed images fails the run: status 1, shards stay, nothing is built from them",
        0.01,
        metavar="P",
        type=share,
    )
    caption_threshold: float = option(
        RUN,
        "a larger share of damaged rows in the captions file is refused before the work",
        0.01,
        metavar="P",
        type=share,
    )
    pixel_limit: int = option(RUN, "larger images are failures, checked before they are decoded", PIXEL_LIMIT, **_COUNT)
    decode_memory: int = option(
        RUN,
        "memory for the images that a process decodes and resizes at once, about 15 bytes a pixel; a larger image is "
        "decoded alone",
        1 << 30,
        metavar="BYTES",
        type=positive,
    )
    dry_run: bool = option(
        RUN, "say what the run would do and cost, and write nothing; needs no weights, and does not read them", False
    )
    images_per_second: float | None = option(
        RUN, "with `--dry_run`: what one worker detects; default as measured on a CPU", metavar="N", type=amount
    )
    price_per_hour: float | None = option(
        RUN, "with `--dry_run`: price of an hour of one worker", metavar="PRICE", type=amount
    )
    retry_failed: bool = option(RUN, "redo the shards that hold failures", False)
    check_shards: bool = option(RUN, "read the finished shards first, and redo those whose checksum differs", False)
    quiet: bool = option(RUN, "print only warnings and errors: no progress, notes or summary", False)
    log_json: str | None = option(
        RUN, "append what the run does to this local file, a JSON object a line: phases, progress, notes, end", **_FILE
    )
    no_wait: bool = option(RUN, "on Dataflow: submit the job and return, status 0, without waiting for its end", False)
    on_interrupt: str = option(
        RUN,
        "on Dataflow: what Ctrl-C and SIGTERM do to the job; `leave` says how to cancel it later",
        "leave",
        choices=("leave", "cancel"),
    )

    @property
    def imports(self) -> bool:
        """Whether records are read that older programs computed."""
        return bool(self.import_files)

    @property
    def detects(self) -> bool:
        """Whether shards are written; otherwise other outputs are built from shards that are there."""
        return self.outputs is None or "tfrecord" in self.outputs

    @cached_property
    def selection(self) -> SelectionRule:
        """How many regions an image keeps."""
        return SelectionRule(self.min_boxes, self.max_boxes, self.conf_threshold)


def check_flags(config: Config) -> None:
    """Refuse flags that contradict each other.

    Raises:
        UsageError: names the flags.
    """
    if not config.output:
        raise UsageError("--output DIR is missing: where everything is written; see --help")
    sources = [flag for flag, name in _SOURCES.items() if getattr(config, name)]
    if len(sources) > 1:
        both = " and ".join(f"--{name}" for name in sources)
        raise UsageError(f"expected one of {', '.join(f'--{name}' for name in _SOURCES)}, got {both}; see --help")
    if config.detects and not sources:
        raise UsageError("expected --corpus DIR or --images PATTERN ...: what to read; see --help")
    if config.recursive and not config.images:
        raise UsageError("--recursive: expected --images beside it, whose folders it searches")
    if config.detects and config.weights is None and not config.imports and not config.dry_run:
        raise UsageError("--weights FILE is missing: the network's weights; see docs/weights.md")
    try:
        selection = config.selection
        if config.device == "cpu":
            check_cpu_precision(config.precision)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if config.given_boxes is not None and selection != SelectionRule():
        raise UsageError(
            "--boxes: every box given is described: expected no --min_boxes, --max_boxes or --conf_threshold beside it"
        )
    if config.reuse is not None and os.path.normpath(config.reuse) == os.path.normpath(config.output):
        raise UsageError(f"--reuse {config.reuse}: expected an earlier output, got --output itself; name another one")
    for name in ("import_prefix", "image_sizes"):
        if getattr(config, name) and not config.imports:
            raise UsageError(f"--{name}: expected --import beside it, whose records it describes")
    for name in ("images_per_second", "price_per_hour"):
        if getattr(config, name) is not None and not config.dry_run:
            raise UsageError(f"--{name}: expected --dry_run beside it, which reckons with it")
    if config.dry_run and not config.detects:
        raise UsageError("--dry_run: expected tfrecord among --outputs; what is built from whole shards costs little")
    if config.checksum and config.reuse is None:
        raise UsageError("--checksum: expected --reuse DIR beside it, whose records it compares")
    for name, value in (
        ("reuse", config.reuse),
        ("boxes", config.given_boxes),
        ("detector_config", config.detector_config),
        ("exif", config.exif),
    ):
        if value and config.imports:
            raise UsageError(f"--{name}: imported records are taken as they are: expected --images or --corpus")
