"""Small trained models that ship with heedmap, and how each was trained.

``heedmap.load("zoo/NAME")`` opens one (:mod:`heedmap.models.names` knows where it is), ``heedmap zoo train NAME``
trains it again from its recipe.

How to add a model:

1. Its task, a module ``zoo/tasks/NAME.py`` with the five functions of :class:`heedmap.zoo.recipe.Task`: ``model``,
   ``processors``, ``batch``, ``loss`` and ``scores``. ``model`` returns a transformers model whose configuration has
   its labels (``id2label``); ``processors`` what is saved beside it (tokenizer, image processor). ``batch`` must be a
   function of (seed, split, start) alone and must not draw from torch's generator: then a resumed run sees the same
   data as one that never stopped. ``scores`` may have any names; ``loss`` and ``scores`` get the model itself.
2. Its recipe, a :class:`heedmap.zoo.recipe.Recipe` in ``zoo/recipes.py``: data only, no import of torch.
   The task is named by its module, so that listing recipes is fast.
3. Its name in the list from which :data:`heedmap.zoo.recipes.ZOO` is made.
4. ``heedmap zoo train NAME --out src/heedmap/zoo/models/NAME``, and commit that folder.
5. Its samples with their true evidence, a line in :data:`heedmap.zoo.samples.MATERIALS`: ``heedmap demo`` shows one, and
   ``heedmap zoo evidence NAME --out docs/zoo.json --markdown docs/zoo.md`` puts its figures into the documents. By the
   ``truths`` of its :class:`heedmap.zoo.material.Material` it can be asked in ``heedmap evaluate`` without a data set.

A model that is first trained in another form (DETR's backbone on dense class maps) has two stages, each with its own
task module: the second one's ``model(settings, before)`` takes the weights that it wants out of ``before``, the model of
the first with its best weights. Scores in the card are measured on the stored folder, loaded again.
"""
