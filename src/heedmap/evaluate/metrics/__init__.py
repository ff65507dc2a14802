"""Figures of maps as pure functions of numbers: no model, no pictures read."""
