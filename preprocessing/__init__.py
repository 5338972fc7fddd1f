"""Raw inputs to files: slide readers, tissue, tiling, ST readers, bulk and clinical tables. No torch in here."""
