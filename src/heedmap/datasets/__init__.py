"""Data sets in which the evidence for every answer is known."""
