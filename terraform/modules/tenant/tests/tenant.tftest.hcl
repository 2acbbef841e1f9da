variables {
  name              = "acme"
  platform_url      = "https://platform.dcoder.example.com"
  operator_key_file = "operator.key"
}

run "a_tenant_is_planned_and_protected" {
  command = plan

  assert {
    condition     = terraform_data.tenant.input.name == "acme"
    error_message = "the tenant's name does not reach the resource"
  }

  assert {
    condition     = terraform_data.tenant.input.deletion_protection
    error_message = "a tenant must be protected unless it is said otherwise"
  }
}

run "a_name_with_capitals_is_refused" {
  command = plan
  variables { name = "Acme" }
  expect_failures = [var.name]
}

run "a_name_that_ends_in_a_hyphen_is_refused" {
  command = plan
  variables { name = "acme-" }
  expect_failures = [var.name]
}

run "a_name_of_33_characters_is_refused" {
  command = plan
  variables { name = "a23456789012345678901234567890123" }
  expect_failures = [var.name]
}

run "a_url_with_a_password_is_refused" {
  command = plan
  variables { platform_url = "https://me:secret@platform.example.com" }
  expect_failures = [var.platform_url]
}

run "a_url_with_a_path_is_refused" {
  command = plan
  variables { platform_url = "https://platform.example.com/v1" }
  expect_failures = [var.platform_url]
}

run "a_key_in_place_of_its_file_is_refused" {
  command = plan
  variables { operator_key_file = "dck_abc_def" }
  expect_failures = [var.operator_key_file]
}

run "a_server_with_a_quote_is_refused" {
  command = plan
  variables { postgres_server = "second\"" }
  expect_failures = [var.postgres_server]
}

run "a_host_with_a_line_break_is_refused" {
  command = plan
  variables { platform_host = "a\nb" }
  expect_failures = [var.platform_host]
}

run "a_folder_for_the_key_is_refused" {
  command = plan
  variables { admin_key_file = "keys/" }
  expect_failures = [var.admin_key_file]
}

run "no_time_at_all_is_refused" {
  command = plan
  variables { timeout_s = 0 }
  expect_failures = [var.timeout_s]
}
