run "the_cluster_of_kubeconfig_is_used" {
  command = plan
  variables {
    kubeconfig = "/etc/kube/config"
    context    = "prod"
  }

  assert {
    condition     = length(terraform_data.kind) == 0 && terraform_data.answers.input.context == "prod"
    error_message = "no cluster should be made, and the given context used"
  }
}

run "kind_makes_one_with_a_context_of_its_own" {
  command = plan
  variables {
    kind = {
      name       = "lab"
      node_image = "kindest/node:v1.34.0@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    }
  }

  assert {
    condition     = length(terraform_data.kind) == 1 && terraform_data.answers.input.context == "kind-lab"
    error_message = "one cluster should be made, and kind's context used"
  }

  assert {
    condition     = length(terraform_data.image) == 0
    error_message = "without an archive no image should be loaded"
  }
}

run "an_older_kubernetes_is_refused" {
  command = plan
  variables {
    kind = { node_image = "kindest/node:v1.33.9@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  }
  expect_failures = [var.kind]
}

run "a_node_image_without_digest_is_refused" {
  command = plan
  variables {
    kind = { node_image = "kindest/node:v1.34.0" }
  }
  expect_failures = [var.kind]
}

run "an_archive_that_is_not_there_is_refused" {
  command = plan
  variables {
    kind = {
      node_image    = "kindest/node:v1.34.0@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      image_archive = "/nowhere/dcoder.tar"
    }
  }
  expect_failures = [var.kind]
}

run "a_cluster_name_with_a_blank_is_refused" {
  command = plan
  variables {
    kind = {
      name       = "my lab"
      node_image = "kindest/node:v1.34.0@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    }
  }
  expect_failures = [var.kind]
}

run "no_time_at_all_is_refused" {
  command = plan
  variables {
    kind = {
      node_image      = "kindest/node:v1.34.0@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      ready_timeout_s = 0
    }
  }
  expect_failures = [var.kind]
}

run "a_context_with_a_blank_is_refused" {
  command = plan
  variables { context = "my cluster" }
  expect_failures = [var.context]
}

run "no_kubeconfig_is_refused" {
  command = plan
  variables { kubeconfig = "" }
  expect_failures = [var.kubeconfig]
}
