"""A server in OpenAI's form: models that write, embed and classify, behind one door."""
