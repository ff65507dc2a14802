"""The web page, ``heedmap app``: choose a model, give it something, see what it answers and what that rests on.

One module each: ``limits`` (what may be given), ``models`` (one request at a time), ``material`` (samples of the zoo),
``predictions`` (what a model answers), ``results`` (explanations and their files), ``handlers`` (what a click does),
``page`` (what is where), ``gate`` (which addresses are answered), ``server``, ``commands``. Only ``page`` and ``server``
know Gradio.
"""
