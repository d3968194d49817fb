"""Judges of concepts."""
