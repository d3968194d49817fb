"""Drawings as SVG of stable bytes.

They rest on no plotting library, whose versions would change the bytes.
"""
