"""What any program needs: errors, files, the machine, consoles, processes, the cache, random streams.

Nothing here knows of federated learning, models or images, and nothing of ours is imported.
"""
