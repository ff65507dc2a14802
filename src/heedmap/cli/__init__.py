"""The commands that ask one model: ``explain``, ``inspect``; and ``methods``."""
