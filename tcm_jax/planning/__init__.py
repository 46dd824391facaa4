"""What a compiled program will ask of a machine: reads XLA's text and compares it with what chips can do."""
