"""Other projects' rules behind the runner's function, a file for each; their own code runs, with the settings that mean the same.

``PACKAGE`` is what pip installs. Where a rule has no setting for what a vector asks, the adapter raises NotImplementedError; it never
computes anything in a project's place.
"""
