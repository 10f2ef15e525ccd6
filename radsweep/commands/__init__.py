"""What each command does with its arguments: calls and output, nothing else."""
