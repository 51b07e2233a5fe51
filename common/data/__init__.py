"""Where images and randomness come from: sources, cached datasets, splits, random streams, corruptions.

Imports plain helpers alone.
"""
