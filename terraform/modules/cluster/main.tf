locals {
  kubeconfig = pathexpand(var.kubeconfig)
}

resource "terraform_data" "kind" {
  count            = var.kind == null ? 0 : 1
  triggers_replace = { name = var.kind.name, node_image = var.kind.node_image, kubeconfig = local.kubeconfig }
  input            = { name = var.kind.name, kubeconfig = local.kubeconfig }

  provisioner "local-exec" {
    command = "kind create cluster --name \"$NAME\" --image \"$NODE_IMAGE\" --kubeconfig \"$KUBECONFIG\" --wait \"$READY_TIMEOUT_S\"s"
    environment = {
      NAME            = var.kind.name
      NODE_IMAGE      = var.kind.node_image
      KUBECONFIG      = local.kubeconfig
      READY_TIMEOUT_S = var.kind.ready_timeout_s
    }
  }

  provisioner "local-exec" {
    when    = destroy
    command = "kind delete cluster --name \"$NAME\" --kubeconfig \"$KUBECONFIG\""
    environment = {
      NAME       = self.input.name
      KUBECONFIG = self.input.kubeconfig
    }
  }
}

resource "terraform_data" "image" {
  count            = try(var.kind.image_archive, "") == "" ? 0 : 1
  triggers_replace = [terraform_data.kind[0].id, filesha256(var.kind.image_archive)]

  provisioner "local-exec" {
    command = "kind load image-archive \"$ARCHIVE\" --name \"$NAME\""
    environment = {
      ARCHIVE = var.kind.image_archive
      NAME    = var.kind.name
    }
  }
}

resource "terraform_data" "answers" {
  input = {
    kubeconfig = local.kubeconfig
    context    = var.kind == null ? var.context : "kind-${var.kind.name}"
  }
  triggers_replace = [local.kubeconfig, var.context, terraform_data.kind[*].id]
  depends_on       = [terraform_data.image]

  provisioner "local-exec" {
    command = "kubectl --context=\"$CONTEXT\" --request-timeout=20s get --raw /readyz"
    environment = {
      KUBECONFIG = local.kubeconfig
      CONTEXT    = var.kind == null ? var.context : "kind-${var.kind.name}"
    }
  }
}
