"""The audit trail: records in the transaction of the change, sealed into a hash chain and a signed Merkle tree."""

PENDING = "dcoder.audit.pending"
"""The event that says a tenant has records to be sealed."""
