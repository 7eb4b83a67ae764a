"""What people see of long work: `merlin.progress` for terminals, pipes and programs."""
