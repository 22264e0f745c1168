"""The search for the weights of a method, with its journal; `Fitting` in dispatch.py runs one search."""
