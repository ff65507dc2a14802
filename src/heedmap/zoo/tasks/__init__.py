"""The tasks of the recipes, a module each; see :class:`heedmap.zoo.recipe.Task`."""
