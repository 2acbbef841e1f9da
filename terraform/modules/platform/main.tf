locals {
  kubeconfig = pathexpand(var.kubeconfig)
  knative    = "${path.module}/../../../knative"
  described  = yamldecode(file("${local.knative}/environments/${var.environment}.yaml"))
  rendered   = "${local.knative}/rendered/${var.environment}"
  manifests  = sha256(join("", [for name in sort(fileset(local.rendered, "*.yaml")) : filesha256("${local.rendered}/${name}")]))
  scheme     = local.described.tls_secret == null ? "http" : "https"
  where      = { environment = var.environment, kubeconfig = local.kubeconfig, context = var.context }
}

# Apart from `release`, whose replacement is a rollout and must delete nothing.
resource "terraform_data" "lifetime" {
  triggers_replace = var.environment
  input            = merge(local.where, { deletion_protection = var.deletion_protection })

  provisioner "local-exec" {
    when    = destroy
    command = "${path.module}/platform.sh delete"
    environment = {
      ENVIRONMENT         = self.input.environment
      KUBECONFIG          = self.input.kubeconfig
      CONTEXT             = self.input.context
      DELETION_PROTECTION = self.input.deletion_protection
    }
  }
}

resource "terraform_data" "release" {
  triggers_replace = [terraform_data.lifetime.id, local.where, local.manifests, var.image, var.keys_folder, var.secrets_revision]
  input            = { image = var.image == "" ? local.described.image : var.image }

  # What it prints is shown only when it fails, because stores is ephemeral.
  provisioner "local-exec" {
    command = "${path.module}/platform.sh apply"
    environment = {
      ENVIRONMENT               = var.environment
      IMAGE                     = var.image
      KUBECONFIG                = local.kubeconfig
      CONTEXT                   = var.context
      KEYS_FOLDER               = pathexpand(var.keys_folder)
      DCODER_POSTGRES_URL       = try(var.stores.postgres_url, "")
      DCODER_REDIS_URL          = try(var.stores.redis_url, "")
      DCODER_OBJECTS_ACCESS_KEY = try(var.stores.objects_access_key, "")
      DCODER_OBJECTS_SECRET_KEY = try(var.stores.objects_secret_key, "")
      READY_TIMEOUT_S           = var.ready_timeout_s
    }
  }
}
