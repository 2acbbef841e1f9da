variables {
  versions = { serving = "1.23.0", kourier = "1.23.0", eventing = "1.23.0" }
  sha256 = {
    "serving-crds.yaml"      = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    "serving-core.yaml"      = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    "kourier.yaml"           = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    "eventing-crds.yaml"     = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    "eventing-core.yaml"     = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    "in-memory-channel.yaml" = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    "mt-channel-broker.yaml" = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
}

run "the_release_is_planned_and_protected" {
  command = plan

  assert {
    condition     = terraform_data.release.input.serving == "1.23.0"
    error_message = "the version does not reach the resource"
  }

  assert {
    condition     = terraform_data.lifetime.input.deletion_protection
    error_message = "Knative must be protected unless it is said otherwise"
  }

  assert {
    condition     = length(split("\n", terraform_data.lifetime.input.sums)) == 7
    error_message = "there must be one checksum for each of the seven files"
  }
}

run "latest_is_no_version" {
  command = plan
  variables {
    versions = { serving = "latest", kourier = "1.23.0", eventing = "1.23.0" }
  }
  expect_failures = [var.versions]
}

run "a_release_that_is_too_old_is_refused" {
  command = plan
  variables {
    versions = { serving = "1.20.3", kourier = "1.23.0", eventing = "1.23.0" }
  }
  expect_failures = [var.versions]
}

run "a_missing_checksum_is_refused" {
  command = plan
  variables {
    sha256 = { "serving-crds.yaml" = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  }
  expect_failures = [var.sha256]
}

run "a_short_checksum_is_refused" {
  command = plan
  variables {
    sha256 = {
      "serving-crds.yaml"      = "0123456789abcdef"
      "serving-core.yaml"      = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      "kourier.yaml"           = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      "eventing-crds.yaml"     = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      "eventing-core.yaml"     = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      "in-memory-channel.yaml" = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      "mt-channel-broker.yaml" = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    }
  }
  expect_failures = [var.sha256]
}

run "a_mirror_without_tls_is_refused" {
  command = plan
  variables { mirror_url = "http://mirror.example.com" }
  expect_failures = [var.mirror_url]
}

run "no_time_at_all_is_refused" {
  command = plan
  variables { ready_timeout_s = 0 }
  expect_failures = [var.ready_timeout_s]
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
