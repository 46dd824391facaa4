"""What benchmarks report of detectors, recognizers and both together."""
