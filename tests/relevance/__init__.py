"""The algebra, the recorded attention and the methods against slow oracles, and their laws."""
