"""Tasks of the text track."""
