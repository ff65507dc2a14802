"""Pictures, tables and pages of an Explanation; a renderer only reads it.

One module each: ``sample`` (what is drawn), ``words`` (tokens joined), ``scale`` (how relevance becomes a colour) and
``colours``; ``overlay`` (maps on images), ``plot`` (figures), ``terminal`` and ``text`` (the command line), ``table`` (the
flow), ``data`` (JSON), ``files`` (which ending is drawn how). In HTML: ``page`` (reports), ``figure`` (a segment),
``wordmap`` (a text), ``choose`` (one of many maps), ``draws`` (what draws from what), ``several`` (answers), ``made`` (how),
``style``, ``notebook``.
"""
