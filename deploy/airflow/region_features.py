"""Two DAGs for Airflow, of which most want one; both run every night and wait in the triggerer, without a worker.

`region_features_rebuild` runs the Cloud Run job of deploy/terraform/rebuild.tf: a version of a corpus that changes.
`region_features_template` launches the Flex Template on a corpus that stays: what changed is redone in place.

Needs `pip install 'apache-airflow-providers-google[apache.beam]'`, since its operators of Dataflow import Beam's
provider, and four Airflow variables: `region_features_project`, `region_features_region`, `region_features_bucket`,
`region_features_image`. Accounts and Cloud Run job are those of deploy/terraform.
"""

from __future__ import annotations

import datetime
from typing import Any

from airflow import DAG
from airflow.providers.google.cloud.operators.cloud_run import CloudRunExecuteJobOperator
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator

PROJECT, REGION = "{{ var.value.region_features_project }}", "{{ var.value.region_features_region }}"
BUCKET, IMAGE = "gs://{{ var.value.region_features_bucket }}", "{{ var.value.region_features_image }}"
NIGHTLY: dict[str, Any] = {
    "schedule": "0 2 * * *",
    "start_date": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "catchup": False,
    "max_active_runs": 1,
    # Each attempt goes on where the last one ended.
    "default_args": {"retries": 2, "retry_delay": datetime.timedelta(minutes=10)},
}
LAUNCH: dict[str, Any] = {
    "launchParameter": {
        # Dataflow refuses a second job of this name while the first one runs.
        "jobName": "region-features",
        "containerSpecGcsPath": f"{BUCKET}/templates/region-features.json",
        "parameters": {
            "corpus": f"{BUCKET}/mscoco",
            "weights": f"{BUCKET}/W.caffemodel",
            "output": f"{BUCKET}/run",
            "accelerator": "type:nvidia-tesla-t4;count:1;install-nvidia-driver:5xx",
            "sdk_container_image": IMAGE,
            "disk_size_gb": "200",
        },
        "environment": {
            "machineType": "n1-standard-8",
            "tempLocation": f"{BUCKET}/tmp",
            "stagingLocation": f"{BUCKET}/tmp",
            # Otherwise the job would have the rights of Compute Engine's default account.
            "serviceAccountEmail": f"region-features-worker@{PROJECT}.iam.gserviceaccount.com",
        },
    }
}

with DAG(dag_id="region_features_rebuild", **NIGHTLY):
    CloudRunExecuteJobOperator(
        task_id="rebuild", project_id=PROJECT, region=REGION, job_name="region-features-rebuild", deferrable=True
    )

with DAG(dag_id="region_features_template", **NIGHTLY):
    DataflowStartFlexTemplateOperator(
        task_id="launch", project_id=PROJECT, location=REGION, body=LAUNCH, deferrable=True, append_job_name=False
    )
