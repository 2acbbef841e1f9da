variable "kind" {
  description = "Make a cluster with kind, which must be on the PATH with Docker or Podman. name: of the cluster. node_image: with its digest. image_archive: path of an archive that dcoder image build made, to load onto the node; empty loads none. ready_timeout_s: seconds until the node must be ready. Null: use the cluster of kubeconfig."
  type = object({
    name            = optional(string, "dcoder")
    node_image      = string
    image_archive   = optional(string, "")
    ready_timeout_s = optional(number, 180)
  })
  default = null

  validation {
    condition     = var.kind == null || can(regex("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", var.kind.name))
    error_message = "kind.name must have 1 to 32 characters: a-z, 0-9 and inner hyphens."
  }

  validation {
    condition     = var.kind == null || can(regex("^[a-z0-9./:_-]+:v1\\.(3[4-9]|[4-9][0-9])\\.[0-9]+@sha256:[0-9a-f]{64}$", var.kind.node_image))
    error_message = "kind.node_image must name Kubernetes 1.34 or later and its digest: kindest/node:v1.34.0@sha256:<64 hex digits>."
  }

  validation {
    condition     = try(var.kind.image_archive, "") == "" || try(fileexists(var.kind.image_archive), false)
    error_message = "There is no file kind.image_archive: ./dcoder image build makes one."
  }

  validation {
    condition     = var.kind == null || try(var.kind.ready_timeout_s >= 1 && var.kind.ready_timeout_s <= 3600, false)
    error_message = "kind.ready_timeout_s must be from 1 to 3600 seconds."
  }
}

variable "kubeconfig" {
  description = "Path of the kubeconfig file: of the cluster that is there, or to be written for kind."
  type        = string
  default     = "~/.kube/config"
  nullable    = false

  validation {
    condition     = length(var.kubeconfig) > 0
    error_message = "kubeconfig must be the path of a file."
  }
}

variable "context" {
  description = "kubectl's context in kubeconfig. Empty: its current one. Not used with kind, which names its own."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[^ ]{0,253}$", var.context))
    error_message = "context must be a context's name without blanks, or empty."
  }
}
