# What the values must be stands in the modules' own variables, which check them.

variable "kind" {
  description = "As in module cluster. Null: the cluster that kubeconfig points at."
  type = object({
    name            = optional(string, "dcoder")
    node_image      = string
    image_archive   = optional(string, "")
    ready_timeout_s = optional(number, 180)
  })
  default = null
}

variable "kubeconfig" {
  description = "As in module cluster: path of the kubeconfig file."
  type        = string
  default     = "~/.kube/config"
  nullable    = false
}

variable "context" {
  description = "As in module cluster: kubectl's context. Empty: the current one."
  type        = string
  default     = ""
  nullable    = false
}

variable "knative" {
  description = "As in module knative. Null: Knative is in the cluster already."
  type = object({
    versions   = object({ serving = string, kourier = string, eventing = string })
    sha256     = map(string)
    mirror_url = optional(string, "https://github.com")
  })
  default = null
}

variable "image" {
  description = "As in module platform: repository:tag. Empty: the one of knative/environments/local.yaml."
  type        = string
  default     = ""
  nullable    = false
}

variable "keys_folder" {
  description = "As in module platform: path of the folder with the key files, for example secrets/ of DCODER_HOME."
  type        = string
  default     = ""
  nullable    = false
}

variable "stores" {
  description = "As in module platform. Null: the stores that run in DCODER_HOME."
  type        = object({ postgres_url = string, redis_url = string, objects_access_key = string, objects_secret_key = string })
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "tenants" {
  description = "Names of the tenants to make."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "gateway_url" {
  description = "Where the ingress answers, http://host:port. Empty: the platform's own name, which this machine must resolve."
  type        = string
  default     = ""
  nullable    = false
}

variable "operator_key_file" {
  description = "As in module tenant: path of the file with an operator's key. Needed when tenants are named."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = length(var.tenants) == 0 || var.operator_key_file != ""
    error_message = "operator_key_file is needed to make tenants."
  }
}

variable "deletion_protection" {
  description = "Whether destroying Knative, the platform and the tenants is refused."
  type        = bool
  default     = true
  nullable    = false
}
