"""What the platform does: one folder per capability, one per function."""
