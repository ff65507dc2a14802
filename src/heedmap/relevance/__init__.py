"""The algebra: equations 5–11 of Chefer, Gur and Wolf (ICCV 2021), on tensors only."""
