"""How well a map fits what is known to be true."""
