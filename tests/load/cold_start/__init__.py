"""From no pod to the first byte, and where the time goes."""
