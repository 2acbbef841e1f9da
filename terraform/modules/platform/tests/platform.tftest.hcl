variables {
  environment = "production"
  image       = "registry.example.com/dcoder:0.1.0"
}

run "addresses_and_namespace_are_the_environments" {
  command = plan

  assert {
    condition     = output.platform_url == "https://platform.dcoder.example.com" && output.llm_url == "https://llm.dcoder.example.com"
    error_message = "the addresses must follow from domain and tls_secret of the environment file"
  }

  assert {
    condition     = output.namespace == "dcoder" && terraform_data.lifetime.input.deletion_protection
    error_message = "the namespace must be the environment's, and protected"
  }
}

run "without_an_image_the_environments_is_used" {
  command = plan
  variables {
    environment = "local"
    image       = ""
  }

  assert {
    condition     = terraform_data.release.input.image == "dev.local/dcoder:0.1.0" && output.platform_url == "http://platform.dcoder.localhost"
    error_message = "image and scheme must be those of knative/environments/local.yaml"
  }
}

run "an_environment_without_file_is_refused" {
  command = plan
  variables { environment = "nowhere" }
  expect_failures = [var.environment]
}

run "an_environment_outside_the_folder_is_refused" {
  command = plan
  variables { environment = "../environments/local" }
  expect_failures = [var.environment]
}

run "the_tag_latest_is_refused" {
  command = plan
  variables { image = "registry.example.com/dcoder:latest" }
  expect_failures = [var.image]
}

run "an_image_without_tag_is_refused" {
  command = plan
  variables { image = "dcoder" }
  expect_failures = [var.image]
}

run "stores_of_another_kind_are_refused" {
  command = plan
  variables {
    keys_folder = "keys"
    stores = {
      postgres_url       = "mysql://db"
      redis_url          = "redis://cache"
      objects_access_key = "a"
      objects_secret_key = "b"
    }
  }
  expect_failures = [var.stores]
}

run "stores_without_keys_are_refused" {
  command = plan
  variables {
    stores = {
      postgres_url       = "postgresql://db"
      redis_url          = "redis://cache"
      objects_access_key = "a"
      objects_secret_key = "b"
    }
  }
  expect_failures = [var.keys_folder]
}

run "half_a_revision_is_refused" {
  command = plan
  variables { secrets_revision = 1.5 }
  expect_failures = [var.secrets_revision]
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
