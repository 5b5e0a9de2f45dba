"""Tasks: the places that know what a target looks like. Collate, head, loss; one file a task."""
