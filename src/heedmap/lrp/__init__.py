"""Relevance propagation (LRP) through any transformer: rules, the mode that applies them, and one replay."""
