terraform {
  # 1.11 knows ephemeral values. No provider is downloaded: all resources are terraform_data, which is built in.
  required_version = ">= 1.11.0, < 2.0.0"
}
