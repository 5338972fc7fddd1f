"""Read tables that users give (CSV, TSV, Parquet, Excel) and check them against a declared schema."""
