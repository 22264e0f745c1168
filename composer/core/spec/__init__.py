"""What a composition is asked to do: the job, its examples, options, metrics and errors; no torch."""
