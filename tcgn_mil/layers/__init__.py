"""Layers of which TCGN and the slide model are built. They know no model and read no files."""
