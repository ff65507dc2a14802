"""Pictures, tables and pages of an Explanation; a renderer only reads it.

``sample`` is what is drawn, ``naming`` and ``cautions`` what is said of it, ``words`` its text, ``scale`` how relevance becomes
a colour. ``views`` is the one table of what each kind of segment looks like in every medium; a new kind is a class and a line
there.

- Figures: ``figure`` (one explanation, or several side by side) and ``matrices`` (answers, attention), of axes that ``panels``
  draws, on a ``figure_layout``; ``overlay`` lays a map on an image.
- HTML: ``html`` fills in the files of ``templates``; ``page`` makes reports, with what draws from what and how it was made,
  ``answer_page`` those of answers.
- ``terminal`` prints, ``sound`` has the curves, ``files`` says which ending, and which form for a notebook, is made how.
"""
