"""Backbones: forward processes and their networks."""
