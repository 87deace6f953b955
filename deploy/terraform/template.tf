# Every night: the Flex Template, whose job redoes what changed in place, in run/. It refuses a corpus in which images
# came or went; for that, see rebuild.tf. Build the template first, see docs/deploy.md.
locals {
  launch = "https://dataflow.googleapis.com/v1b3/projects/${var.project}/locations/${var.region}/flexTemplates:launch"
}

resource "google_cloud_scheduler_job" "template" {
  name      = "region-features-template"
  region    = var.region
  schedule  = var.schedule
  time_zone = "Etc/UTC"

  http_target {
    http_method = "POST"
    uri         = local.launch
    headers     = { "Content-Type" = "application/json" }
    body = base64encode(jsonencode({
      launchParameter = {
        # Dataflow refuses a second job of this name while the first one runs.
        jobName              = "region-features"
        containerSpecGcsPath = "gs://${var.bucket}/templates/region-features.json"
        parameters = {
          corpus              = "gs://${var.bucket}/mscoco"
          weights             = "gs://${var.bucket}/W.caffemodel"
          output              = "gs://${var.bucket}/run"
          accelerator         = var.accelerator
          sdk_container_image = var.image
          disk_size_gb        = "200"
        }
        environment = {
          machineType         = "n1-standard-8"
          tempLocation        = "gs://${var.bucket}/tmp"
          stagingLocation     = "gs://${var.bucket}/tmp"
          serviceAccountEmail = google_service_account.worker.email
        }
      }
    }))

    oauth_token {
      service_account_email = google_service_account.submitter.email
    }
  }

  depends_on = [google_project_service.needed]
}

# The launcher's machine runs as the worker; it creates the job that it has planned.
resource "google_project_iam_member" "launcher_makes_jobs" {
  project = var.project
  role    = "roles/dataflow.developer"
  member  = google_service_account.worker.member
}

resource "google_service_account_iam_member" "launcher_uses_itself" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.worker.member
}
