"""A page that shows what every model of the zoo looks at, by the paper's method and its baselines."""
