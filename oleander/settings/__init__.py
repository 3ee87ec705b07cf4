"""What is to be run: every setting, plug-ins by name, the command line, scenario files, sweeps and studies.

Nothing here runs anything or imports PyTorch: a wrong flag is refused at once.
"""
