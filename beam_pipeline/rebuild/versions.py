"""The folder of a rebuilt corpus: `versions/<UTC time>/` are outputs, `latest.json` names the last whole one."""

from __future__ import annotations

import calendar
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beam_pipeline.layout import Layout
from beam_pipeline.preflight.output_folder import parse_manifest
from region_features.records.json_text import parse_json
from transforms import files
from transforms.beam_private import gcs_client
from transforms.manifest import MANIFEST, MANIFEST_DIGEST, PLAN
from transforms.trees import google_errors, list_subfolders

LATEST, VERSIONS_FOLDER = "latest.json", "versions"
_NAME_FORMAT = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"\d{8}T\d{6}Z")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Latest:
    """What latest.json says.

    Attributes:
        version: name of the last whole version.
        manifest_sha256: hex SHA-256 of its manifest.
        generation: of the object on gs://, by which another's replacement of it is noticed; 0 elsewhere.
    """

    version: str
    manifest_sha256: str
    generation: int = 0


@dataclass(frozen=True)
class Versions:
    """The versions below a folder.

    Attributes:
        root: the folder, local or remote.
    """

    root: str

    @property
    def latest_path(self) -> str:
        """Path of latest.json."""
        return files.join(self.root, LATEST)

    def folder(self, version: str) -> str:
        """Return the output folder of a version."""
        return files.join(self.root, VERSIONS_FOLDER, version)

    def names(self) -> list[str]:
        """Return the names of all versions, the oldest first; anything else that stands there is left out."""
        return [name for name in list_subfolders(files.join(self.root, VERSIONS_FOLDER)) if _NAME.fullmatch(name)]

    def new_name(self) -> str:
        """Return the time as a version's name; one that follows all others, even if the clock went back."""
        moment, names = int(time.time()), self.names()
        if names:
            moment = max(moment, calendar.timegm(time.strptime(names[-1], _NAME_FORMAT)) + 1)
        return time.strftime(_NAME_FORMAT, time.gmtime(moment))

    def read_latest(self) -> Latest | None:
        """Read latest.json; None where there is none.

        Raises:
            ValueError: it is something else.
            OSError: it cannot be read.
        """
        data, generation = self._read_latest()
        if data is None:
            return None
        try:
            content = parse_json(data)
            latest = Latest(content["version"], content["manifest_sha256"], generation)
            if not (_NAME.fullmatch(latest.version) and _SHA256.fullmatch(latest.manifest_sha256)):
                raise ValueError("a field of another form")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.latest_path}: expected the name of a version and the SHA-256 of its manifest, got "
                f"{data[:60]!r} ({error}); restore it, or delete it to build everything anew"
            ) from error
        return latest

    def _read_latest(self) -> tuple[bytes | None, int]:
        if self.root.startswith("gs://"):
            with google_errors(self.latest_path):
                bucket, name = _split(self.latest_path)
                held = gcs_client().bucket(bucket).get_blob(name)
                return (held.download_as_bytes(), held.generation) if held else (None, 0)
        present = LATEST in files.list_folder(self.root)
        return (files.read_bytes(self.latest_path) if present else None), 0

    def read_manifest(self, latest: Latest) -> Mapping[str, Any]:
        """Read the manifest of the last whole version, after a comparison with what latest.json says of it.

        Raises:
            ValueError: it is missing, or another.
        """
        path = Layout(self.folder(latest.version)).manifest
        try:
            data = files.read_bytes(path)
        except Exception as error:  # Google's client has its own kinds of errors
            raise ValueError(f"{path}: named by {LATEST}, and cannot be read: {error}; {self._remedy}") from error
        if files.digest_of_bytes(data)["sha256"] != latest.manifest_sha256:
            raise ValueError(f"{path}: expected the SHA-256 that {LATEST} says, got another; {self._remedy}")
        return parse_manifest(data, path)

    def find_manifest(self, version: str) -> Mapping[str, Any] | None:
        """Return the manifest of a version whose run went well and wrote its last file, None of any other."""
        layout = Layout(self.folder(version))
        if not {MANIFEST, MANIFEST_DIGEST} <= files.list_folder(layout.output).keys():
            return None
        manifest = parse_manifest(files.read_bytes(layout.manifest), layout.manifest)
        return manifest if manifest["status"] == "done" else None

    def has_plan(self, version: str) -> bool:
        """Return whether a version's run came so far that it has a plan, without which none of its records is known."""
        return PLAN in files.list_folder(self.folder(version))

    @property
    def _remedy(self) -> str:
        return f"restore that version, or delete {self.latest_path} to build everything anew"

    def replace_latest(self, version: str, replaced: Latest | None) -> None:
        """Name another version in latest.json, in one step: readers see the old content or the new one.

        Args:
            version: whose output is whole.
            replaced: what latest.json said when the rebuild started.

        Raises:
            OSError: it cannot be written, or another rebuild replaced it meanwhile.
        """
        manifest = Layout(self.folder(version)).manifest
        content = {"version": version, "manifest_sha256": files.sha256_of(manifest)}
        data = (json.dumps(content, indent=1) + "\n").encode()
        if not self.root.startswith("gs://"):
            files.publish_bytes(self.latest_path, [data])
            return
        from google.api_core.exceptions import PreconditionFailed

        bucket, name = _split(self.latest_path)
        generation = replaced.generation if replaced else 0
        with google_errors(self.latest_path):
            blob = gcs_client().bucket(bucket).blob(name)
            try:
                blob.upload_from_string(data, content_type="application/json", if_generation_match=generation)
            except PreconditionFailed as error:
                raise OSError(f"{self.latest_path}: another rebuild replaced it; run the same again") from error


def _split(path: str) -> tuple[str, str]:
    bucket, _, name = path.removeprefix("gs://").partition("/")
    return bucket, name
