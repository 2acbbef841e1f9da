"""The platform as Kubernetes and Knative objects, derived from what the functions declare."""
