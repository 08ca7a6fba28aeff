"""VERL: the only place that knows its configuration keys and how it is run."""
