"""What this package adds to tf-largebatch; pyproject.toml says how."""
