"""What the runs on engines rest on, which need no engine themselves; see tests/engines."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.engines import __main__ as engines
from tests.engines import engine, runs


def test_a_jar_without_content_starts_a_class_of_other_jars() -> None:
    paths = [Path(f"/lib/{'x' * 60}{number}.jar") for number in range(3)]
    text = engine.jar_manifest("org.example.Main", paths)
    assert text.endswith("\r\n") and all(len(line) <= 72 for line in text.split("\r\n"))
    attributes = dict(line.split(": ", 1) for line in text.replace("\r\n ", "").split("\r\n")[:-1])
    assert attributes["Main-Class"] == "org.example.Main" and attributes["Manifest-Version"] == "1.0"
    assert attributes["Class-Path"].split(" ") == [f"file://{path}" for path in paths]
    assert "java.base/java.nio" in attributes["Add-Opens"].split(" ")


def test_both_job_servers_are_of_one_version_of_beam() -> None:
    versions = set()
    for name in ("flink", "spark"):
        root = ElementTree.parse(ROOT / "tests" / "engines" / f"{name}-pom.xml").getroot()
        space = {"m": "http://maven.apache.org/POM/4.0.0"}
        for dependency in root.iterfind(".//m:dependency", space):
            if dependency.findtext("m:groupId", namespaces=space) == "org.apache.beam":
                versions.add(dependency.findtext("m:version", namespaces=space))
    assert len(versions) == 1


@pytest.mark.parametrize(("name", "tool"), [("prism", "go"), ("flink", "java"), ("spark", "java")])
def test_a_missing_client_is_one_line_and_wrong_use(
    name: str, tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(engines, "_FOLDER", tmp_path)
    assert engines.main([name]) == 2
    message = capsys.readouterr().err
    assert f"needs {tool}, found none on the PATH; install" in message and message.count("\n") == 1


def test_outputs_differ_where_a_byte_or_a_name_does(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "tfrecord").mkdir(parents=True)
        (tmp_path / name / "same").write_bytes(b"1")
        (tmp_path / name / "tfrecord" / "other").write_bytes(name.encode())
    (tmp_path / "b" / ".tmp-left").write_bytes(b"")
    assert runs.difference(tmp_path / "a", tmp_path / "b") == [".tmp-left", "tfrecord/other"]
    with pytest.raises(runs.RunError, match=r"differs from .*: \.tmp-left, tfrecord/other"):
        runs.check_same(tmp_path / "a", tmp_path / "b")
    runs.check_same(tmp_path / "a", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_workers_of_a_pool_are_its_children_that_still_run(tmp_path: Path) -> None:
    code = "import subprocess, time; subprocess.Popen(['sleep', '60']); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout and parent.stdout.readline()
        (child,) = runs.children(parent.pid)
        subprocess.run(["kill", "-9", str(child)], check=True)
        while runs.children(parent.pid):  # dead, but not waited for
            pass
        parent.kill()


def test_each_kind_is_counted_by_itself_and_a_failure_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails_once(output: Path) -> None:
        if output.name.startswith("0"):
            raise runs.RunError("it differs")

    good = engines.repeat({"demo": lambda output: None, "killed and run again": fails_once}, 2, tmp_path)
    assert good == {"demo": 2, "killed and run again": 1}
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("1, killed and run again: it differs (") and len(lines) == 4
