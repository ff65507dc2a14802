"""An evaluation over a data set: what it is, its run in parts into a folder, and its report."""
