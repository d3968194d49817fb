"""The command line: the only home of click, rich and of what is printed."""
