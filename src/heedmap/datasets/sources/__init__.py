"""The rows of a data set, whatever its form, one by one: what a run over all of them explains."""
