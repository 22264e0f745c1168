"""The methods that combine N LoRA modules and a weight vector into one adapter."""
