"""Training and evaluation, a model as numbers and in files, devices, and what a client's update is. Nothing here knows of Flower."""
