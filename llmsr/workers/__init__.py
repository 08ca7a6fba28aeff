"""Worker processes with deadlines, on this machine or on a Ray cluster."""
