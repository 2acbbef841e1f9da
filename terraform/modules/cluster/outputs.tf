output "kubeconfig" {
  description = "Path of the kubeconfig file, once the cluster has answered."
  value       = terraform_data.answers.output.kubeconfig
}

output "context" {
  description = "kubectl's context in it; empty for the current one."
  value       = terraform_data.answers.output.context
}
