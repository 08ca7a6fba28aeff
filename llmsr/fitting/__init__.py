"""Fitting: the constants of an expression from data, in one of three modes."""

from llmsr.fitting.fit import MODES, Fit, fit, fit_many, warm_up

__all__ = ["MODES", "Fit", "fit", "fit_many", "warm_up"]
