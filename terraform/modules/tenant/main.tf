resource "terraform_data" "tenant" {
  triggers_replace = var.name

  # What the deletion needs. It is kept in the state, so no secret is among it.
  input = {
    name                = var.name
    platform_url        = var.platform_url
    platform_host       = var.platform_host
    operator_key_file   = pathexpand(var.operator_key_file)
    admin_key_file      = pathexpand(var.admin_key_file)
    deletion_protection = var.deletion_protection
    timeout_s           = var.timeout_s
  }

  provisioner "local-exec" {
    command = "${path.module}/tenant.sh create"
    environment = {
      TENANT            = var.name
      POSTGRES_SERVER   = var.postgres_server
      PLATFORM_URL      = var.platform_url
      PLATFORM_HOST     = var.platform_host
      OPERATOR_KEY_FILE = pathexpand(var.operator_key_file)
      ADMIN_KEY_FILE    = pathexpand(var.admin_key_file)
      TIMEOUT_S         = var.timeout_s
    }
  }

  provisioner "local-exec" {
    when    = destroy
    command = "${path.module}/tenant.sh delete"
    environment = {
      TENANT              = self.input.name
      PLATFORM_URL        = self.input.platform_url
      PLATFORM_HOST       = self.input.platform_host
      OPERATOR_KEY_FILE   = self.input.operator_key_file
      ADMIN_KEY_FILE      = self.input.admin_key_file
      DELETION_PROTECTION = self.input.deletion_protection
      TIMEOUT_S           = self.input.timeout_s
    }
  }
}
