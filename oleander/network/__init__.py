"""A run over a real network: what stands between Flower's SuperLink and the world, and who may come in."""
