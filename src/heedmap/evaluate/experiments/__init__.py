"""The experiments: what is measured of each sample, and what the measurements say."""
