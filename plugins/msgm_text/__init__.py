"""The text-to-image plugins (extra ``[text]``): concepts that prompts ask for."""
