output "platform_url" {
  description = "Where the platform's API answers."
  value       = module.platform.platform_url
}

output "llm_url" {
  description = "Where the LLM gateway answers: base URL of OpenAI's clients with /v1 after it."
  value       = module.platform.llm_url
}

output "admin_key_files" {
  description = "Path of the file with the first admin key, by tenant."
  value       = { for name, tenant in module.tenant : name => tenant.admin_key_file }
}
