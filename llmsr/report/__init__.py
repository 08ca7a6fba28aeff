"""What people see: progress while a run goes on, its result when it ends."""
