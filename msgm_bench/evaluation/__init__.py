"""Evaluation of a trained model: artifacts, scoring, statistics."""
