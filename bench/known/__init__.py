"""Inputs whose evidence is known, for models with real weights: reactions and synthetic speech; figures of maps on them."""
