"""The frozen base model: tokens, losses, gradients and answers of P candidates at once."""
