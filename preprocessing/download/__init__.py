"""Download public data into folders that the other verbs read.

Nothing here touches the network on import; a session is opened by the function that needs it.
"""
