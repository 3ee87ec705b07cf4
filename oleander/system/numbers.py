"""Numbers as people write them: without exponents, with a true minus sign and none before zero, and nouns that agree with them."""

import math

PLAIN = (1e-4, 1e6)
"""Between these a number is written out; beyond them with a power of ten."""
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals: ``−0.10``, ``0.00``."""
    text = f"{abs(value):,.{decimals}f}"
    return f"−{text}" if value < 0 and text.strip("0.,") else text


def significant(value: float, digits: int = 2) -> str:
    """A number of so many significant digits: ``260``, ``4.9``, ``1.0``, ``0.012``."""
    if not value or not math.isfinite(value):
        return fixed(value, 0)
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if not PLAIN[0] <= abs(float(f"{mantissa}e{exponent}")) < PLAIN[1]:
        return f"{fixed(float(mantissa), digits - 1)}×10{str(int(exponent)).translate(RAISED)}"
    return fixed(float(f"{mantissa}e{exponent}"), max(0, digits - 1 - int(exponent)))


def trimmed(value: float) -> str:
    """A number of at most six significant digits, without zeros behind its decimals: ``0.5``, ``100``, ``10³⁰``."""
    number, times, power = significant(value, 6).partition("×")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return power if number == "1" and times else number + times + power


def count(number: int, noun: str, nouns: str = "") -> str:
    """So many of something: ``1 run``, ``3 runs``."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"
