"""Documents, search over them, and answers that cite them."""
