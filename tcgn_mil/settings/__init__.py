"""Settings of the library's parts, as config classes that load no torch.

The command line writes its help from these classes, so they must be cheap to import.
"""
