"""Exchange of tiles with other tools: reading and writing their tile files, and reading pixels."""
