# Every night: Cloud Run runs `rebuild`, which submits a job to Dataflow where something changed, waits for its end, and
# names the new version in features/latest.json. Cloud Run is billed for one processor while it waits.
resource "google_cloud_run_v2_job" "rebuild" {
  name                = "region-features-rebuild"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.submitter.email
      timeout         = "86400s"
      # Each attempt goes on where the last one ended.
      max_retries = 2

      containers {
        image   = var.image
        command = ["python", "-m", "beam_pipeline.rebuild"]
        args = [
          "gs://${var.bucket}/features",
          "--keep_versions=3",
          "--corpus=gs://${var.bucket}/mscoco",
          "--weights=gs://${var.bucket}/W.caffemodel",
          "--runner=DataflowRunner",
          "--project=${var.project}",
          "--region=${var.region}",
          "--temp_location=gs://${var.bucket}/tmp",
          "--service_account_email=${google_service_account.worker.email}",
          "--sdk_container_image=${var.image}",
          "--sdk_location=container",
          "--machine_type=n1-standard-8",
          "--disk_size_gb=200",
          "--accelerator=${var.accelerator}",
        ]
        resources {
          limits = {
            cpu    = "1"
            memory = "4Gi"
          }
        }
      }
    }
  }

  depends_on = [google_project_service.needed]
}

# What starts it: this one Cloud Run job, and nothing else.
resource "google_service_account" "rebuild_schedule" {
  account_id   = "region-features-rebuild"
  display_name = "Region features: starts the nightly rebuild"
}

resource "google_cloud_run_v2_job_iam_member" "schedule_starts_rebuild" {
  name     = google_cloud_run_v2_job.rebuild.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.rebuild_schedule.member
}

resource "google_cloud_scheduler_job" "rebuild" {
  name      = "region-features-rebuild"
  region    = var.region
  schedule  = var.schedule
  time_zone = "Etc/UTC"

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.rebuild.id}:run"

    oauth_token {
      service_account_email = google_service_account.rebuild_schedule.email
    }
  }
}
