"""Build a pure-Python detectron2 0.6 wheel from the published source archive.

detectron2 is not on the package index under its own name, and building it from source needs a compiler. Its 0.6
sources are on the index as ``pb1-detectron2`` (same Python files, no C++), which cannot be installed as it is: its
``setup.py`` wants to compile the missing C++ files. This script fetches that archive with pip, checks its hash, and
repacks the ``detectron2`` folder as ``detectron2-0.6-py3-none-any.whl`` with two changes:

* an empty ``detectron2/_C.py`` stands in for the compiled module, which only deformable convolution, rotated boxes and
  the fast COCO evaluation call into;
* ``Image.LINEAR``, which Pillow 10 removed, is read as its other name ``Image.BILINEAR``.

The same archive gives the same wheel, byte for byte. torch and setuptools must be installed first, because pip runs
the archive's ``setup.py`` to read its name and version (after it has checked the hash).

Usage: ``python tools/detectron2_wheel.py dist`` writes the wheel into ``dist`` and prints its path.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

ARCHIVE_NAME = "pb1-detectron2"
VERSION = "0.6"
ARCHIVE_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
WHEEL_NAME = f"detectron2-{VERSION}-py3-none-any.whl"
DIST_INFO = f"detectron2-{VERSION}.dist-info"
STUB_PATH = "detectron2/_C.py"
# (file, text that must be in it exactly once, its replacement)
PATCHES = (("detectron2/data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR"),)
# What `import detectron2.{config,modeling,layers,structures,checkpoint,model_zoo}` needs; no training, no evaluation.
REQUIRES = (
    "Pillow>=7.1",
    "cloudpickle",
    "fvcore>=0.1.5",
    "iopath>=0.1.7",
    "omegaconf>=2.1",
    "pycocotools>=2.0.2",
    "setuptools<82",  # model_zoo imports pkg_resources, which setuptools 82 dropped
    "tabulate",
    "termcolor>=1.1",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


class WheelError(Exception):
    """The archive could not be fetched, or is not the expected one."""


def fetch_archive(folder: Path, sha256: str = ARCHIVE_SHA256) -> Path:
    """Download the source archive into ``folder`` with pip, which refuses one with another hash.

    Raises:
        WheelError: pip failed (its own words are on stderr), or it saved no archive.
    """
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{ARCHIVE_NAME}=={VERSION} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--no-binary", ":all:", "--require-hashes", "--dest", str(folder), "--requirement", str(requirement)]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    archives = sorted(folder.glob("*.tar.gz"))
    if done.returncode != 0 or len(archives) != 1:
        raise WheelError(
            f"expected pip to save one archive of {ARCHIVE_NAME}=={VERSION}, got exit status {done.returncode} and "
            f"{len(archives)} archives: see pip's message above (torch and setuptools<82 must be installed first)"
        )
    return archives[0]


def check_sha256(archive: Path, expected: str = ARCHIVE_SHA256) -> None:
    """Raise WheelError unless the file's sha256 is ``expected`` (lower-case hex)."""
    actual = hashlib.sha256(archive.read_bytes()).hexdigest()
    if actual != expected:
        raise WheelError(f"{archive}: expected sha256 {expected}, got {actual}: delete it and fetch it again")


def read_sources(archive: Path) -> dict[str, bytes]:
    """Read the ``detectron2`` folder and the licence of a source archive.

    Returns:
        Path inside the wheel -> content, e.g. ``detectron2/__init__.py``.

    Raises:
        WheelError: a member is a link or lies outside the archive's own folder, or a file is missing.
    """
    sources: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            # Nothing is unpacked here, but pip would write outside its folder when it unpacks such a wheel.
            if path.is_absolute() or ".." in path.parts or "\\" in member.name:
                raise WheelError(f"{archive}: expected paths inside the archive, got {member.name!r}")
            inner = path.parts[1:]
            if (inner != ("LICENSE",) and inner[:1] != ("detectron2",)) or member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise WheelError(f"{archive}: expected plain files below detectron2/, got a link: {member.name!r}")
            name = f"{DIST_INFO}/LICENSE" if inner == ("LICENSE",) else "/".join(inner)
            sources[name] = content.read()
    for needed in ("detectron2/__init__.py", f"{DIST_INFO}/LICENSE"):
        if needed not in sources:
            raise WheelError(f"{archive}: expected a file for {needed}, found none: not detectron2's source archive")
    return sources


def patch_sources(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """Apply ``PATCHES`` and add the empty stand-in for the compiled module.

    Raises:
        WheelError: a file does not hold the text to replace exactly once, or already has a compiled module.
    """
    patched = dict(sources)
    for name, old, new in PATCHES:
        times = patched.get(name, b"").count(old.encode())
        if times != 1:
            raise WheelError(f"{name}: expected {old!r} once, found it {times} times: not detectron2 {VERSION}")
        patched[name] = patched[name].replace(old.encode(), new.encode())
    if STUB_PATH in patched:
        raise WheelError(f"{STUB_PATH}: expected to be absent from the archive, it is there")
    patched[STUB_PATH] = b""
    return patched


def metadata_files() -> dict[str, bytes]:
    """Return the wheel's METADATA, WHEEL and top_level.txt (core metadata 2.1, wheel format 1.0)."""
    metadata = [
        "Metadata-Version: 2.1",
        "Name: detectron2",
        f"Version: {VERSION}",
        "Summary: Detectron2, pure-Python files only (no compiled operators)",
        "Home-page: https://github.com/facebookresearch/detectron2",
        "Author: FAIR",
        "License: Apache-2.0",
        "License-File: LICENSE",
        "Requires-Python: >=3.6",
        *(f"Requires-Dist: {requirement}" for requirement in REQUIRES),
    ]
    wheel = ["Wheel-Version: 1.0", "Generator: detectron2_wheel", "Root-Is-Purelib: true", "Tag: py3-none-any"]
    return {
        f"{DIST_INFO}/METADATA": ("\n".join(metadata) + "\n").encode(),
        f"{DIST_INFO}/WHEEL": ("\n".join(wheel) + "\n").encode(),
        f"{DIST_INFO}/top_level.txt": b"detectron2\n",
    }


def record_file(files: Mapping[str, bytes]) -> bytes:
    """Return the RECORD of a wheel: a line ``path,sha256=digest,size`` a file, its own last and without hash."""
    lines = []
    for name in sorted(files):
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(files[name])}")
    lines.append(f"{DIST_INFO}/RECORD,,")
    return ("\n".join(lines) + "\n").encode()


def write_wheel(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the files and their RECORD as a zip of fixed order, times and modes; rename it into place when complete."""
    record = f"{DIST_INFO}/RECORD"
    # The wheel format asks for the metadata physically at the end, RECORD last.
    ordered = [*sorted(files, key=lambda name: (name.startswith(DIST_INFO), name)), record]
    partial = path.with_name(f"{path.name}.partial")
    with zipfile.ZipFile(partial, "w") as wheel:
        for name in ordered:
            info = zipfile.ZipInfo(name, date_time=ZIP_TIME)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            # Stored, not deflated: another zlib would give other bytes.
            info.compress_type = zipfile.ZIP_STORED
            wheel.writestr(info, record_file(files) if name == record else files[name])
    os.replace(partial, path)


def build_wheel(archive: Path, folder: Path, sha256: str = ARCHIVE_SHA256) -> Path:
    """Check, patch and repack ``archive`` into ``folder``.

    Returns:
        The path of the wheel.

    Raises:
        WheelError: the archive is not the one expected.
    """
    check_sha256(archive, sha256)
    files = {**patch_sources(read_sources(archive)), **metadata_files()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WHEEL_NAME
    write_wheel(path, files)
    return path


def main(argv: list[str] | None = None) -> int:
    """Run the command line: fetch (or take ``--archive``), build, print the wheel's path."""
    parser = argparse.ArgumentParser(description="Build a pure-Python detectron2 wheel.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="where the wheel is written")
    parser.add_argument("--archive", type=Path, help=f"an already fetched {ARCHIVE_NAME}-{VERSION}.tar.gz")
    flags = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            archive = flags.archive or fetch_archive(Path(scratch))
            print(build_wheel(archive, flags.folder))
    except (WheelError, OSError, tarfile.TarError) as error:
        print(f"detectron2_wheel: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
