"""The web page, ``heedmap app``: choose a model, give it something, see what it answers and what that rests on.

One module each: ``uploads`` (how much may be given, and files), ``form_inputs`` (what a person gives, samples of the zoo),
``models`` (one request at a time), ``method_options`` (methods, options, from which token), ``results`` and ``columns``
(explanations and their files), ``handlers`` (what can be done), ``parts`` (HTML), ``fields``, ``actions`` and ``page`` (what is
where, and what a click does), ``middleware`` (which addresses are answered), ``server``. Only ``fields``,
``actions``, ``page`` and ``server`` know Gradio.
"""
