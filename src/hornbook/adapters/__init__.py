"""Surgery on a finished model, by module name, that can be undone."""
