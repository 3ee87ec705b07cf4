"""The scenarios that ``--scenario NAME`` finds: one TOML file each, with only its differences from the defaults.

There is no code here. The file makes the folder a package, so that a wheel has it beside the code, as the source tree does.
"""
