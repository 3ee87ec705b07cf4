"""A loader's listener, for loads that have nothing to say."""


def refuse(text):
    raise AssertionError(text)
