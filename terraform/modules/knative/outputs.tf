output "kubeconfig" {
  description = "Path of the kubeconfig file, once Knative is ready in that cluster."
  value       = local.kubeconfig
  depends_on  = [terraform_data.release]
}

output "versions" {
  description = "The installed releases of Serving, Kourier and Eventing."
  value       = terraform_data.release.output
}
