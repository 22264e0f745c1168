"""This site speaks the Hub's protocol: hf, peft and transformers work with it unchanged."""
