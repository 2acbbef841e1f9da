output "name" {
  description = "The tenant's name, once the platform has created it."
  value       = terraform_data.tenant.output.name
}

output "admin_key_file" {
  description = "Path of the file with the tenant's first admin key; empty when none was asked for."
  value       = terraform_data.tenant.output.admin_key_file
}
