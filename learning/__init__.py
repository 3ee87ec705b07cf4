"""What is learned and from what: model, data, partitions, evaluation, and a model as numbers."""
