"""Clients of the federated network: benign ones, malicious ones, and the ClientApp that Flower calls."""
