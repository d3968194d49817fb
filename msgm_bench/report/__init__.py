"""The run folder: report, pictures and provenance; exports of trained models."""
