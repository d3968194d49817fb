"""Built-in datasets of msgm-bench, registered through entry points as anybody's are."""
