"""What is ready to apply: every file parses, and every schedule gives flags that the program takes."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import hcl2
import kubernetes_validate
import pytest
import yaml

from beam_pipeline.dataflow.errors import remedy_for
from beam_pipeline.dataflow.template import from_launcher
from beam_pipeline.flags.config import Config
from beam_pipeline.flags.options import parse_args
from beam_pipeline.rebuild.flags import config_of_version, parse_options
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
GPU = "type:nvidia-tesla-t4;count:1;install-nvidia-driver:5xx"
VARIABLES = {
    "var.project": "my-project",
    "var.region": "europe-west4",
    "var.bucket": "bucket",
    "var.image": "image:1",
    "var.accelerator": GPU,
    "google_service_account.worker.email": "worker@my-project.iam.gserviceaccount.com",
}


def plain(value: Any) -> Any:
    """Return a parsed piece of Terraform without quotes, its variables filled in."""
    if isinstance(value, dict):
        return {plain(name): plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if not isinstance(value, str):
        return value
    unquoted = value.removeprefix('"').removesuffix('"')
    return re.sub(r"\$\{([\w.]+)\}", lambda name: VARIABLES.get(name[1], name[0]), unquoted)


def resources(file: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the resources of a Terraform file, (type, name) -> arguments."""
    content = plain(hcl2.loads((DEPLOY / "terraform" / file).read_text()))
    return {
        (kind, name): body for row in content["resource"] for kind, named in row.items() for name, body in named.items()
    }


def cron() -> list[str]:
    (line,) = [row for row in (DEPLOY / "cron" / "region-features").read_text().splitlines() if re.match(r"\d", row)]
    *times, user, command = line.split(maxsplit=6)[:7]
    assert times == ["0", "2", "*", "*", "*"] and user == "features" and "%" not in command  # cron ends lines at %
    assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0
    return shlex.split(command.partition(">>")[0].partition("&&")[2])


def systemd() -> list[str]:
    unit = (DEPLOY / "systemd" / "region-features.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return shlex.split(line)


def kubernetes() -> list[str]:
    pod = yaml.safe_load((DEPLOY / "kubernetes" / "cronjob.yaml").read_text())["spec"]["jobTemplate"]["spec"][
        "template"
    ]
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    return [*container["command"], *container["args"]]


def terraform() -> list[str]:
    job = resources("rebuild.tf")["google_cloud_run_v2_job", "rebuild"]
    (container,) = job["template"][0]["template"][0]["containers"]
    return [*container["command"], *container["args"]]


@pytest.mark.parametrize("command", [cron, systemd, kubernetes, terraform], ids=lambda command: command.__name__)
def test_a_schedule_runs_a_rebuild_that_the_program_takes(command: Any) -> None:
    python, option, module, *argv = command()
    assert Path(python).name == "python" and (option, module) == ("-m", "beam_pipeline.rebuild")
    options = parse_options(argv)
    config, beam_flags = config_of_version(options, f"{options.root}/versions/new", None)
    assert options.keep_versions == 3 and options.root.endswith("/features")
    assert (config.corpus or "").endswith("/mscoco") and config.weights
    assert all("=" in flag and not flag.endswith("=") for flag in beam_flags)
    if command is terraform:
        assert config.accelerator == GPU and config.device == "cuda" and "--runner=DataflowRunner" in beam_flags


def test_kubernetes_has_every_field_of_the_cron_job() -> None:
    job = yaml.safe_load(read("kubernetes/cronjob.yaml"))
    kubernetes_validate.validate(job, "1.37", strict=True)
    job["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError, match="concurencyPolicy"):
        kubernetes_validate.validate(job, "1.37", strict=True)


class Airflow:
    """Stands in for the packages that the DAGs import; remembers the operators."""

    def __init__(self) -> None:
        self.operators: dict[str, dict[str, Any]] = {}
        self.dags: list[dict[str, Any]] = []

    def dag(self, **options: Any) -> Airflow:
        self.dags.append(options)
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def operator(self, **options: Any) -> None:
        self.operators[options["task_id"]] = options


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    fake = Airflow()
    google = "airflow.providers.google.cloud.operators"
    for name, attribute, value in (
        ("airflow", "DAG", fake.dag),
        (f"{google}.cloud_run", "CloudRunExecuteJobOperator", fake.operator),
        (f"{google}.dataflow", "DataflowStartFlexTemplateOperator", fake.operator),
    ):
        module = ModuleType(name)
        setattr(module, attribute, value)
        monkeypatch.setitem(sys.modules, name, module)
    runpy.run_path(str(DEPLOY / "airflow" / "region_features.py"))
    return fake


def check_launch(parameters: dict[str, str]) -> Config:
    """Check a launch's parameters against the template's, as Dataflow does; return what the launcher's run asks for."""
    rows = json.loads((DEPLOY / "template" / "metadata.json").read_text())["parameters"]
    patterns = {row["name"]: row["regexes"][0] for row in rows}
    assert {row["name"] for row in rows if not row.get("isOptional")} <= parameters.keys() <= patterns.keys()
    assert [name for name, value in parameters.items() if not re.fullmatch(patterns[name], value)] == []
    launcher = [f"--{name}={value}" for name, value in parameters.items()]
    config, _ = parse_args([*from_launcher(launcher), "--runner=DataflowRunner"])
    return config


def test_airflow_waits_in_the_triggerer_for_the_template_and_for_the_rebuild(airflow: Airflow) -> None:
    assert set(airflow.operators) == {"rebuild", "launch"} and len(airflow.dags) == 2
    assert all(operator["deferrable"] for operator in airflow.operators.values())
    assert all(dag["max_active_runs"] == 1 and not dag["catchup"] for dag in airflow.dags)
    run_job = resources("rebuild.tf")["google_cloud_run_v2_job", "rebuild"]
    assert airflow.operators["rebuild"]["job_name"] == run_job["name"]
    launch = airflow.operators["launch"]["body"]["launchParameter"]
    filled = {name: re.sub(r"\{\{ var\.value\.\w+ \}\}", "x", value) for name, value in launch["parameters"].items()}
    assert check_launch(filled).accelerator == GPU
    # The account of Terraform's worker, in place of a default one that has the rights of an editor.
    account = resources("main.tf")["google_service_account", "worker"]["account_id"]
    assert launch["environment"]["serviceAccountEmail"].startswith(f"{account}@{{{{ var.value.region_features_project")


def test_the_scheduler_launches_the_template_with_parameters_that_it_has() -> None:
    job = resources("template.tf")["google_cloud_scheduler_job", "template"]
    (target,) = job["http_target"]
    assert target["http_method"] == "POST" and target["oauth_token"]
    parameters = re.search(r"parameters = \{(.*?)\}", target["body"])
    assert parameters
    filled = {}
    for row in parameters[1].split(", "):
        name, _, value = row.partition(" = ")
        filled[name] = VARIABLES.get(value) or plain(value)
    config = check_launch(filled)
    assert config.output == "gs://bucket/run" and config.accelerator == GPU


def test_the_accounts_have_the_least_rights() -> None:
    granted = {
        (file, row["member"].split(".")[1], row["role"])
        for file in ("main.tf", "rebuild.tf", "template.tf")
        for row in resources(file).values()
        if "role" in row and not row["member"].startswith("${each")
    }
    assert granted == {
        ("main.tf", "worker", "roles/dataflow.worker"),
        ("main.tf", "submitter", "roles/dataflow.developer"),
        ("main.tf", "submitter", "roles/iam.serviceAccountUser"),
        ("rebuild.tf", "rebuild_schedule", "roles/run.invoker"),
        ("template.tf", "worker", "roles/dataflow.developer"),
        ("template.tf", "worker", "roles/iam.serviceAccountUser"),
    }
    main = resources("main.tf")
    for_both = {row["role"] for row in main.values() if "role" in row and row["member"] == "${each.value}"}
    assert for_both == {"roles/storage.objectUser", "roles/storage.legacyBucketReader", "roles/artifactregistry.reader"}
    # On the one bucket, the one repository, the one account and the one job; only Dataflow's roles are the project's.
    of_the_project = {row["role"] for (kind, _), row in main.items() if kind == "google_project_iam_member"}
    assert of_the_project == {"roles/dataflow.worker", "roles/dataflow.developer"}
    # The remedy of a refused right names this page.
    assert "docs/deploy.md lists all" in remedy_for("403 denied")
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    roles = {role for _, _, role in granted} | for_both
    assert [role for role in roles if f"`{role.removeprefix('roles/')}`" not in page] == []


def test_the_image_is_built_of_files_that_are_sent_to_the_builder() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for copy in copies for source in copy.split()]
    assert sources and all((ROOT / source).exists() for source in sources)
    assert [
        source for source in sources if not any(source == name or source.startswith(f"{name}/") for name in sent)
    ] == []


def read(name: str) -> str:
    return (DEPLOY / name).read_text()


def test_the_image_has_the_tested_packages_by_hash_and_cuda_12_in_place_of_13() -> None:
    locked = re.findall(
        r"^(\S+==\S+) \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", read("image.lock"), re.MULTILINE
    )
    pins = {pin.lower().replace("_", "-").replace(".", "-") for pin, _ in locked}
    assert len(pins) == len(re.findall("==", read("image.lock"))) > 100

    def rows(text: str) -> set[str]:
        kept = (row.partition(";")[0] for row in text.splitlines() if not row.startswith("#"))
        return {row.lower().replace("_", "-").replace(".", "-") for row in kept}

    own = rows(read("cuda12.txt"))
    tested = {
        row for row in rows((ROOT / "constraints.txt").read_text()) if not re.match("cuda-|nvidia-|torch|triton", row)
    }
    assert own <= pins and pins - own <= tested  # after a change of a pin: make lock
    assert not [pin for pin in pins if re.search("cu13|^cuda-toolkit|^tensorflow|^pytest", pin)]


def test_the_dockerfile_is_clean() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "expected hadolint in the environment; run `make setup`"
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.stdout == "" and done.returncode == 0
