"""The MSGM paper's tables beside what the benchmark measures: a command."""
