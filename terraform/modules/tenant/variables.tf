variable "name" {
  description = "The tenant's name: 3 to 32 characters, a-z, 0-9 and hyphens. Another name is another tenant: the old one is deleted."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name must have 3 to 32 characters: a-z, 0-9 and hyphens, a letter first and no hyphen last."
  }
}

variable "platform_url" {
  description = "Where the platform's API answers: scheme, host and port, for example https://platform.dcoder.example.com."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$", var.platform_url))
    error_message = "platform_url must be http(s)://host or http(s)://host:port, without a path, a user or a password."
  }
}

variable "platform_host" {
  description = "The platform's host name, where platform_url is a gateway that serves several. Empty: the one of platform_url."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9.-]{0,253}$", var.platform_host))
    error_message = "platform_host must be a host name in small letters, or empty."
  }
}

variable "operator_key_file" {
  description = "Path of a file that holds an operator's key and nothing else. Only the path is kept in the state."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.operator_key_file) > 0 && !startswith(var.operator_key_file, "dck_")
    error_message = "operator_key_file must be the path of a file, not the key itself: the state would keep it."
  }
}

variable "admin_key_file" {
  description = "Path of a file that gets the tenant's first admin key, readable by its owner only. One that exists is left as it is. Empty: no key is made."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = !endswith(var.admin_key_file, "/")
    error_message = "admin_key_file must be the path of a file, not of a folder."
  }
}

variable "postgres_server" {
  description = "Name of the PostgreSQL server to create the tenant on. Empty: the control database's. Later changes do nothing: use dcoder tenant move."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([a-z][a-z0-9-]{0,31})?$", var.postgres_server))
    error_message = "postgres_server must be a server's name (at most 32 characters: a-z, 0-9 and hyphens, a letter first) or empty."
  }
}

variable "deletion_protection" {
  description = "Whether destroying is refused. Deleting a tenant destroys its database, documents and keys for good."
  type        = bool
  default     = true
  nullable    = false
}

variable "timeout_s" {
  description = "Seconds that one call to the platform may take, and for which one that it answers with busy is repeated."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 600 && floor(var.timeout_s) == var.timeout_s
    error_message = "timeout_s must be a whole number from 1 to 600: the platform gives up after 600 seconds."
  }
}
