"""Models, one a file: modules and how they are initialised. Nothing here knows of clients, files or images on disk."""
