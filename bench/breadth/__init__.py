"""Parts of the sweep over transformers' model classes."""
