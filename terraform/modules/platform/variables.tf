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

variable "environment" {
  description = "Name of the environment: knative/environments/<name>.yaml says domain, placement, stores and sizes."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", var.environment)) && fileexists("${path.module}/../../../knative/environments/${var.environment}.yaml")
    error_message = "There is no knative/environments/<environment>.yaml: copy production.yaml, change it, then ./dcoder deploy render."
  }
}

variable "image" {
  description = "Image of the functions, repository:tag or repository@sha256:digest. Empty: the environment's."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([a-z0-9.:/_-]+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64}))?$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must be repository:tag or repository@sha256:digest, and the tag not latest."
  }
}

variable "stores" {
  description = "Addresses of your stores, with user and password, and the object store's keys. They are in neither plan nor state. Null: those of the stores that run in DCODER_HOME."
  type = object({
    postgres_url       = string
    redis_url          = string
    objects_access_key = string
    objects_secret_key = string
  })
  default   = null
  sensitive = true
  ephemeral = true

  validation {
    condition = var.stores == null || (
      can(regex("^postgres(ql)?://", var.stores.postgres_url)) && can(regex("^rediss?://", var.stores.redis_url))
      && try(length(var.stores.objects_access_key) > 0 && length(var.stores.objects_secret_key) > 0, false)
    )
    error_message = "stores needs postgres_url (postgresql://…), redis_url (redis://… or rediss://…) and both keys of the object store."
  }
}

variable "keys_folder" {
  description = "Path of the folder with root.key, tokens.key, audit.key, pepper.key and hooks.key, 32 bytes each. Given: the Secrets are written. Empty: they must be in the namespace already."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.keys_folder != "" || var.stores == null
    error_message = "stores are written together with the keys: give keys_folder too."
  }
}

variable "secrets_revision" {
  description = "A number to raise when a secret changed, since Terraform does not see their values. It counts revisions, from 1."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.secrets_revision >= 1 && floor(var.secrets_revision) == var.secrets_revision
    error_message = "secrets_revision must be a whole number from 1."
  }
}

variable "deletion_protection" {
  description = "Whether destroying is refused. It deletes the namespace with its Secrets. The stores keep their data."
  type        = bool
  default     = true
  nullable    = false
}

variable "ready_timeout_s" {
  description = "Seconds until everything must be ready."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.ready_timeout_s >= 1 && var.ready_timeout_s <= 3600 && floor(var.ready_timeout_s) == var.ready_timeout_s
    error_message = "ready_timeout_s must be a whole number from 1 to 3600."
  }
}
