"""Fitting: the constants of an expression from data, in one of three modes."""

from llmsr.fitting.fit import MODES, fit, fit_many, warm_up
from llmsr.fitting.result import Fit

__all__ = ["MODES", "Fit", "fit", "fit_many", "warm_up"]
