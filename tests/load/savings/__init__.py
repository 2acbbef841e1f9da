"""What caching and compression save, on four fixed workloads."""
