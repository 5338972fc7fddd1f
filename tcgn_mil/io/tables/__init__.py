"""Read tables of users (CSV, TSV, Parquet, Excel) and check them against a declared schema."""
