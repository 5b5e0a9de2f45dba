"""What a reader gets: one HTML file a study, a card a model. Made from records alone."""
