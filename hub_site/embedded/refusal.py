class EmbeddedError(Exception):
    """Something here cannot start or go on. The message is printed as it is, for whoever runs the command."""
