"""What crosses Flower: the grid, which node is which client, and what may be believed of a reply."""
