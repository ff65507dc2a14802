"""Inputs and weights, changed in a known way: tokens removed or masked, a little noise, random weights."""
