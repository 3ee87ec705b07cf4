"""Shipped starting models, and how they were made."""
