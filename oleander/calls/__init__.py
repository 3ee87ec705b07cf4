"""``run`` and ``study`` as functions of Python: each call is a process of its own, and what it returns is read from its folder."""
