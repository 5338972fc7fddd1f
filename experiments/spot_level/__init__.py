"""Train the spot encoder on spatial-transcriptomics sections and judge it (pretrain, spot-cv).

Both verbs work on the same sections and share this folder.
"""
