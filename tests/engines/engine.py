"""The engines under test, each fetched or built by the ordinary client of its language."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam

_HERE = Path(__file__).resolve().parent
_PRISM = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{apache_beam.__version__}"
# Packages of java.base whose private parts Flink, Spark or what they bring reach into, which Java 17 allows by name.
_OPENED = (
    "java.io",
    "java.lang",
    "java.lang.invoke",
    "java.lang.reflect",
    "java.net",
    "java.nio",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "sun.net.util",
    "sun.nio.ch",
    "sun.nio.cs",
    "sun.security.action",
    "sun.util.calendar",
)
_MANIFEST_LINE = 72


class MissingToolError(Exception):
    """A client that an engine is fetched or run with is not installed; one line."""


@dataclass(frozen=True)
class Engine:
    """An engine that Beam's jobs run on.

    Attributes:
        name: `prism`, `flink` or `spark`.
        fetch: brings it into a folder, unless it is there; returns the command that serves its jobs, but for ports.
        port_flag: the server's flag for the port of its job service.
        run_flags: of a run on it.
        kill: whether a worker is killed, too.
        recover: flags with which a job outlives a killed worker; none where the engine has none.
    """

    name: str
    fetch: Callable[[Path], list[str]]
    port_flag: str
    run_flags: Sequence[str] = ()
    kill: bool = False
    recover: Sequence[str] = ()


def _require(tool: str, engine: str, remedy: str) -> str:
    path = shutil.which(tool)
    if path is None:
        raise MissingToolError(f"{engine} needs {tool}, found none on the PATH; {remedy}")
    return path


def fetch_prism(folder: Path) -> list[str]:
    """Build Prism of Beam's own version from its Go module (about 5 minutes, 120 MB); return how to start it.

    Raises:
        MissingToolError: there is no Go.
        subprocess.CalledProcessError: it cannot be built; Go has said why.
    """
    binary = folder / apache_beam.__version__ / "prism"
    if not binary.exists():
        go = _require("go", "Prism", "install Go 1.25 or later")
        binary.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([go, "install", _PRISM], env={**os.environ, "GOBIN": str(binary.parent)}, check=True)
    return [str(binary), "--serve_http=false"]


def fetch_job_server(folder: Path, pom: Path, driver: str) -> list[str]:
    """Fetch a job server's libraries from Maven Central; return how to start it.

    A jar without content stands for Beam's own one-jar server, which is not always there: `--flink_job_server_jar` and
    `--spark_job_server_jar` take it, too.

    Args:
        folder: where the libraries go.
        pom: what to fetch.
        driver: Java class that serves.

    Raises:
        MissingToolError: there is no Java or no Maven.
        subprocess.CalledProcessError: it cannot be fetched; Maven has said why.
    """
    java = _require("java", driver.rpartition(".")[2], "install Java 17 (openjdk-17-jre-headless)")
    jar, fetched, libraries = folder / "job-server.jar", folder / pom.name, folder / "lib"
    if not fetched.exists() or fetched.read_bytes() != pom.read_bytes():
        maven = _require("mvn", driver.rpartition(".")[2], "install Maven")
        shutil.rmtree(libraries, ignore_errors=True)
        copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={libraries.resolve()}"]
        subprocess.run([maven, "--quiet", "--batch-mode", "--file", str(pom), *copy], check=True)
        shutil.copyfile(pom, fetched)
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", jar_manifest(driver, sorted(libraries.resolve().glob("*.jar"))))
    artifacts = folder.resolve() / "artifacts"
    return [java, "-Xmx2g", "-jar", str(jar), "--artifact-port=0", "--expansion-port=0", f"--artifacts-dir={artifacts}"]


def jar_manifest(main_class: str, class_path: Sequence[Path]) -> str:
    """Return the manifest of a jar that holds nothing, and starts a class of other jars."""
    attributes = {
        "Manifest-Version": "1.0",
        "Main-Class": main_class,
        "Class-Path": " ".join(path.as_uri() for path in class_path),
        "Add-Opens": " ".join(f"java.base/{package}" for package in _OPENED),
    }
    return "".join(f"{_wrapped(f'{name}: {value}')}\r\n" for name, value in attributes.items())


def _wrapped(line: str) -> str:
    """Break a line as manifests want it: at most 72 bytes, each next line after a blank."""
    lines = [line[:_MANIFEST_LINE]]
    rest, width = line[_MANIFEST_LINE:], _MANIFEST_LINE - 1
    lines += [f" {rest[start : start + width]}" for start in range(0, len(rest), width)]
    return "\r\n".join(lines)


def _fetch_flink(folder: Path) -> list[str]:
    driver = "org.apache.beam.runners.flink.FlinkJobServerDriver"
    return [*fetch_job_server(folder, _HERE / "flink-pom.xml", driver), "--flink-master=[local]"]


def _fetch_spark(folder: Path) -> list[str]:
    driver = "org.apache.beam.runners.spark.SparkJobServerDriver"
    return [*fetch_job_server(folder, _HERE / "spark-pom.xml", driver), "--spark-master-url=local[2]"]


ENGINES = {
    "prism": Engine("prism", fetch_prism, "--job_port"),
    "flink": Engine(
        "flink",
        _fetch_flink,
        "--job-port",
        ("--parallelism=2",),
        kill=True,
        # Not --number_of_execution_retries, which Beam heeds in streaming jobs alone.
        recover=(f"--flink_conf_dir={_HERE / 'flink'}",),
    ),
    "spark": Engine("spark", _fetch_spark, "--job-port", kill=True),
}
