"""Built-in backbones of msgm-bench, registered through entry points as anybody's are."""
