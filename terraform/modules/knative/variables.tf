variable "kubeconfig" {
  description = "Path of the kubeconfig file of the cluster."
  type        = string
  default     = "~/.kube/config"
  nullable    = false

  validation {
    condition     = length(var.kubeconfig) > 0
    error_message = "kubeconfig must be the path of a file."
  }
}

variable "context" {
  description = "kubectl's context in kubeconfig. Empty: its current one, which may change behind your back."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[^ ]{0,253}$", var.context))
    error_message = "context must be a context's name without blanks, or empty."
  }
}

variable "versions" {
  description = "Releases of Knative Serving, net-kourier and Knative Eventing, each as major.minor.patch. They are published under one minor version."
  type = object({
    serving  = string
    kourier  = string
    eventing = string
  })
  nullable = false

  validation {
    condition     = alltrue([for one in values(var.versions) : can(regex("^1\\.(2[1-9]|[3-9][0-9])\\.[0-9]+$", one))])
    error_message = "versions must be 1.21.0 or later, written as major.minor.patch."
  }
}

variable "sha256" {
  description = "Checksum of each release file by its name, as 64 hex digits. `knative.sh sums` prints them for your versions: compare before you keep them."
  type        = map(string)
  nullable    = false

  validation {
    condition = toset(keys(var.sha256)) == toset([
      "serving-crds.yaml", "serving-core.yaml", "kourier.yaml",
      "eventing-crds.yaml", "eventing-core.yaml", "in-memory-channel.yaml", "mt-channel-broker.yaml",
    ])
    error_message = "sha256 must have these keys and no others: serving-crds.yaml, serving-core.yaml, kourier.yaml, eventing-crds.yaml, eventing-core.yaml, in-memory-channel.yaml, mt-channel-broker.yaml."
  }

  validation {
    condition     = alltrue([for one in values(var.sha256) : can(regex("^[0-9a-f]{64}$", one))])
    error_message = "Each checksum must have 64 hex digits in small letters."
  }
}

variable "mirror_url" {
  description = "Where the release files are: https:// or, without a network, file:///path, with the same paths below it."
  type        = string
  default     = "https://github.com"
  nullable    = false

  validation {
    condition     = can(regex("^(https://[A-Za-z0-9./:_-]+|file:///[A-Za-z0-9./_-]+)$", var.mirror_url)) && !endswith(var.mirror_url, "/")
    error_message = "mirror_url must start with https:// or file:/// and not end with a slash."
  }
}

variable "deletion_protection" {
  description = "Whether destroying is refused. Deleting Knative deletes every Knative Service, Broker and Trigger of the cluster."
  type        = bool
  default     = true
  nullable    = false
}

variable "ready_timeout_s" {
  description = "Seconds until each of Knative's namespaces must be ready."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.ready_timeout_s >= 1 && var.ready_timeout_s <= 3600 && floor(var.ready_timeout_s) == var.ready_timeout_s
    error_message = "ready_timeout_s must be a whole number from 1 to 3600."
  }
}
