"""The search as a scikit-learn estimator, with workers and models that stay warm."""
