"""Other people's formats: Hugging Face folders, foreign names, and where models come from."""
