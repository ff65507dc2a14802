"""Pictures, tables and pages of an Explanation; a renderer only reads it.

One module each: ``table`` (the flow), ``text`` (token heat), ``overlay`` (maps on images), ``plot`` (figures),
``page`` (HTML), ``terminal`` (the command line), ``data`` (JSON), ``files`` (which ending is drawn how).
"""
