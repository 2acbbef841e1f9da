"""What the gateway costs and stands, beside its peers, in one run: `python -m tests.load.gateway`."""
