"""Metrics of the text track."""
