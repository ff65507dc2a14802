"""Seeing the attention of any model: the recorder, the flow it implies, and the proof that nothing was missed."""
