"""The built-in plugins, registered through entry points as anybody's are."""
