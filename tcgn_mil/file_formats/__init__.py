"""Read each file format in one place, so that damaged and hostile files end in one-line errors."""
