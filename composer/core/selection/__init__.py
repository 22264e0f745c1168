"""The selection of modules before a search: compatibility, screening and similarity."""
