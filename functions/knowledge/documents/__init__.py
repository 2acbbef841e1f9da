"""From an object in a tenant's bucket to searchable chunks in its database."""
