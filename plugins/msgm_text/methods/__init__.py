"""Methods that look inside a prompt."""
