"""Read and write the files of the project: tiles, features, spots, expression and outcomes."""
