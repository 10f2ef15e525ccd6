"""What is attached to a frozen encoder to answer a task: one module each, found by name."""
