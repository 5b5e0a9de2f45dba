"""Other people's formats: folders as Hugging Face writes them, names, and where models come from."""
