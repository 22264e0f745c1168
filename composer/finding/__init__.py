"""Modules are found by examples: a few pairs in, the modules that lower the loss on them out."""
