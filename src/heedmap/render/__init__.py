"""Pictures, tables and pages of an Explanation; a renderer only reads it.

``sample`` is what is drawn, ``words`` its text, ``scale`` how relevance becomes a colour. ``views`` is the one table of what
each kind of segment looks like in every medium; a new kind is a class and a line there.

- Figures: ``figure`` (one explanation, or several side by side), of ``cells`` whose axes ``panels`` draws, on a
  ``figure_layout``; ``overlay`` lays a map on an image.
- HTML: ``html`` fills in the files of ``templates``; ``page`` makes reports, with ``token_to_token`` (what draws from what) and
  ``provenance`` (how it was made), ``answers_page`` several answers; ``picker`` and ``clickable`` are what can be pressed.
- ``terminal`` prints, ``files`` says which ending, and which form for a notebook, is made how.
"""
