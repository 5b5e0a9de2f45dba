"""From text to token ids and back. No torch here."""
