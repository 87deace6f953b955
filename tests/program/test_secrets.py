"""What a machine holds in secret reaches no message, log or output: planted, then looked for."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.conftest import ROOT, TINY_WEIGHTS, tree_bytes, write_photo
from tests.samples.file_server import serving
from tests.samples.program import run

PLANTED = "hunter2-in-the-environment"


def test_a_run_tells_nothing_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GOOGLE_OAUTH_ACCESS_TOKEN"):
        monkeypatch.setenv(name, PLANTED)
    write_photo(tmp_path / "a.png", 1)
    (tmp_path / "b.png").write_bytes(b"no image")
    with caplog.at_level(logging.DEBUG):
        run(
            "--images", tmp_path, "--output", tmp_path / "out", "--failure_threshold", "1", "--outputs", "tfrecord,lmdb"
        )
    outputs = tree_bytes(tmp_path / "out")
    assert "manifest.json" in outputs and all(PLANTED.encode() not in data for data in outputs.values())
    assert PLANTED not in "".join((*capfd.readouterr(), caplog.text))


def test_a_refused_key_of_a_service_account_is_not_shown(tmp_path: Path) -> None:
    key = (
        rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    )
    account = {"type": "service_account", "client_email": "robot@p.iam", "private_key": key, "private_key_id": PLANTED}
    places = ["--images=gs://b/i", f"--weights={TINY_WEIGHTS}", "--output=gs://b/o", "--temp_location=gs://b/t"]
    cloud = ["--runner=DataflowRunner", "--project=p", "--region=r", "--sdk_container_image=i"]
    with serving() as server:  # answers no token request
        (tmp_path / "key.json").write_text(json.dumps({**account, "token_uri": f"{server.base}/token"}))
        done = subprocess.run(
            [sys.executable, "-m", "beam_pipeline", *places, *cloud],
            env={"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"), "HOME": str(tmp_path), "no_proxy": "*"},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2 and "Google refuses this machine's credentials" in done.stderr
    assert PLANTED not in done.stderr and not any(line in done.stderr + done.stdout for line in key.splitlines()[1:-1])
