"""The functions of `import composer`, and the preparation of a job that they share with the command line."""
