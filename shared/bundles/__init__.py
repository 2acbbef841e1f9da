"""A tenant's own function as a signed source bundle: packed, checked, signed, stored, and loaded. See decision 14."""
