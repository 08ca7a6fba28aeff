"""How the names of columns and functions are set in formulas, whatever the markup."""

from __future__ import annotations

import re

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π",
    "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ",
    "Upsilon": "Υ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
SQUARED = ("sin", "cos", "tan", "sinh", "cosh", "tanh")
"""Functions whose powers are written behind the name, as in sin² x."""


def name_and_index(name: str) -> tuple[str, str]:
    """A column's name as symbol and index, which is empty where it has none: `v_max`, `x1`, `pH`."""
    head, underscore, tail = name.partition("_")
    letters = re.fullmatch(r"([A-Za-z])(\d+)", name)
    if letters and not underscore:
        head, tail = letters.groups()
    return (head, tail) if head else (name, "")
