"""Images: a source a file, decoded arrays in the cache, pixels, and how images are dealt out to clients."""
