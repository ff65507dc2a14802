"""The web page, ``heedmap app``: choose a model, give it something, see what it answers and what that rests on.

One module each: ``limits`` (how much may be given), ``uploads`` (files), ``given`` (what a person gives), ``models`` (one
request at a time), ``material`` (samples of the zoo), ``predictions`` (what a model answers), ``ways`` (methods and options),
``starts`` (from a token), ``results`` (explanations and their files), ``frames`` (boxes on a picture), ``handlers`` (what can
be done), ``parts`` (HTML), ``fields``, ``actions`` and ``page`` (what is where, and what a click does), ``script`` (in the
browser), ``gate`` (which addresses are answered), ``server``, ``commands``. Only ``fields``, ``actions``, ``page`` and
``server`` know Gradio.
"""
