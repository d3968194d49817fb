"""Text-to-image datasets, and files of prompts."""
