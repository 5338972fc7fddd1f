"""Studies and commands: each reads files, calls the library and writes files."""
