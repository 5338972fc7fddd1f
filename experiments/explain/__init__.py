"""Explain predictions of single images: which pixels and which patches they rest on."""
