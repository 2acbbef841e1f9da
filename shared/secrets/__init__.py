"""Secrets at rest: the platform's key files, and envelope encryption with a data key per tenant."""

from shared.secrets.envelope import DataKey, TenantSecrets, new_data_key, unwrap, wrap
from shared.secrets.files import read_key

__all__ = ["DataKey", "TenantSecrets", "new_data_key", "read_key", "unwrap", "wrap"]
