"""heedmap against the numbers of the paper authors' own code, on the cases of ``--golden DIR``."""
