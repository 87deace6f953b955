# A daily run on Google Cloud. Two schedules, of which most projects want one: `rebuild.tf` makes versions of a corpus
# that changes; `template.tf` runs the Flex Template on a corpus that stays. Delete the other file.
#   terraform init && terraform apply -var project=PROJECT -var region=REGION -var bucket=BUCKET -var image=IMAGE
terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

variable "project" {
  type = string
}

variable "region" {
  type        = string
  description = "Where bucket, image, schedule and job are; one with the GPU."
}

variable "bucket" {
  type        = string
  description = "An existing bucket with mscoco/ and W.caffemodel; features/ and tmp/ are written to it."
}

variable "image" {
  type        = string
  description = "The image of the Dockerfile in the Artifact Registry, with its tag or digest."
}

variable "repository" {
  type        = string
  description = "Name of the Artifact Registry repository that holds the image."
  default     = "region-features"
}

variable "accelerator" {
  type    = string
  default = "type:nvidia-tesla-t4;count:1;install-nvidia-driver:5xx"
}

variable "schedule" {
  type    = string
  default = "0 2 * * *"
}

locals {
  services = ["dataflow", "cloudscheduler", "run", "artifactregistry", "compute", "storage"]
}

resource "google_project_service" "needed" {
  for_each           = toset(local.services)
  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}

# The machines of a job: they take work from Dataflow, read the corpus, write the features, and pull the image.
resource "google_service_account" "worker" {
  account_id   = "region-features-worker"
  display_name = "Region features: machines of a Dataflow job"
}

resource "google_project_iam_member" "worker_takes_work" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = google_service_account.worker.member
}

# What submits a job: it reads the corpus to plan the run, stages the graph, and may let machines act as the worker.
resource "google_service_account" "submitter" {
  account_id   = "region-features-submitter"
  display_name = "Region features: what plans and submits a job"
}

resource "google_project_iam_member" "submitter_makes_jobs" {
  project = var.project
  role    = "roles/dataflow.developer"
  member  = google_service_account.submitter.member
}

resource "google_service_account_iam_member" "submitter_uses_worker" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.submitter.member
}

locals {
  accounts = {
    worker    = google_service_account.worker.member
    submitter = google_service_account.submitter.member
  }
}

# Objects of this one bucket alone; the second role lets Beam ask whether the bucket exists.
resource "google_storage_bucket_iam_member" "objects" {
  for_each = local.accounts
  bucket   = var.bucket
  role     = "roles/storage.objectUser"
  member   = each.value
}

resource "google_storage_bucket_iam_member" "bucket" {
  for_each = local.accounts
  bucket   = var.bucket
  role     = "roles/storage.legacyBucketReader"
  member   = each.value
}

resource "google_artifact_registry_repository_iam_member" "image" {
  for_each   = local.accounts
  location   = var.region
  repository = var.repository
  role       = "roles/artifactregistry.reader"
  member     = each.value
}
