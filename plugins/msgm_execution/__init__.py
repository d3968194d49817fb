"""Built-in executors and trackers, registered through entry points as anybody's are."""
