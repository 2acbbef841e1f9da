output "platform_url" {
  description = "Where the platform's API answers, once everything is ready."
  value       = "${local.scheme}://platform.${local.described.domain}"
  depends_on  = [terraform_data.release]
}

output "llm_url" {
  description = "Where the LLM gateway answers: base URL of OpenAI's clients with /v1 after it."
  value       = "${local.scheme}://llm.${local.described.domain}"
  depends_on  = [terraform_data.release]
}

output "namespace" {
  description = "Namespace of the platform."
  value       = local.described.namespace
}

output "image" {
  description = "The image that serves."
  value       = terraform_data.release.output.image
}
