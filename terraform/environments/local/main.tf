# One cluster on one machine: kind, or what kubeconfig points at (k3s, for example).

module "cluster" {
  source = "../../modules/cluster"

  kind       = var.kind
  kubeconfig = var.kubeconfig
  context    = var.context
}

module "knative" {
  source = "../../modules/knative"
  count  = var.knative == null ? 0 : 1

  kubeconfig          = module.cluster.kubeconfig
  context             = module.cluster.context
  versions            = var.knative.versions
  sha256              = var.knative.sha256
  mirror_url          = var.knative.mirror_url
  deletion_protection = var.deletion_protection
}

module "platform" {
  source     = "../../modules/platform"
  depends_on = [module.knative]

  kubeconfig          = module.cluster.kubeconfig
  context             = module.cluster.context
  environment         = "local"
  image               = var.image
  keys_folder         = var.keys_folder
  stores              = var.stores
  deletion_protection = var.deletion_protection
}

module "tenant" {
  source   = "../../modules/tenant"
  for_each = var.tenants

  name                = each.value
  platform_url        = var.gateway_url == "" ? module.platform.platform_url : var.gateway_url
  platform_host       = var.gateway_url == "" ? "" : trimprefix(module.platform.platform_url, "http://")
  operator_key_file   = var.operator_key_file
  admin_key_file      = "${abspath(path.root)}/${each.value}.key"
  deletion_protection = var.deletion_protection
}
