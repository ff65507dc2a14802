"""The web page, ``heedmap app``: choose a model, give it something, see what it answers and what that rests on.

One module each: ``uploads`` (how much may be given, and files), ``form_inputs`` (what a person gives, samples of the zoo,
tables), ``models`` (one request at a time), ``method_options`` (methods, options, from which token), ``results`` (explanations
and their files), ``handlers`` (what can be done, and who still waits for it), ``parts`` (HTML), ``actions`` and ``page`` (the
fields, what is where, and what a click does), ``server`` (which addresses are answered). Only ``actions``, ``page`` and
``server`` know Gradio.
"""
