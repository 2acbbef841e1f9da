locals {
  kubeconfig = pathexpand(var.kubeconfig)
  where      = { kubeconfig = local.kubeconfig, context = var.context }
  files = merge(local.where, {
    mirror_url = var.mirror_url
    serving    = var.versions.serving
    kourier    = var.versions.kourier
    eventing   = var.versions.eventing
    sums       = join("\n", [for name, sum in var.sha256 : "${sum}  ${name}"])
  })
}

# Apart from `release`, whose replacement is an upgrade and must delete nothing.
resource "terraform_data" "lifetime" {
  input = merge(local.files, { deletion_protection = var.deletion_protection })

  provisioner "local-exec" {
    when    = destroy
    command = "${path.module}/knative.sh delete"
    environment = {
      KUBECONFIG          = self.input.kubeconfig
      CONTEXT             = self.input.context
      MIRROR_URL          = self.input.mirror_url
      SERVING             = self.input.serving
      KOURIER             = self.input.kourier
      EVENTING            = self.input.eventing
      SUMS                = self.input.sums
      DELETION_PROTECTION = self.input.deletion_protection
    }
  }
}

resource "terraform_data" "release" {
  triggers_replace = [terraform_data.lifetime.id, local.where, var.versions, var.sha256]
  input            = var.versions

  provisioner "local-exec" {
    command = "${path.module}/knative.sh apply"
    environment = {
      KUBECONFIG      = local.kubeconfig
      CONTEXT         = var.context
      MIRROR_URL      = var.mirror_url
      SERVING         = var.versions.serving
      KOURIER         = var.versions.kourier
      EVENTING        = var.versions.eventing
      SUMS            = local.files.sums
      READY_TIMEOUT_S = var.ready_timeout_s
    }
  }
}
