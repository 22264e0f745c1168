"""What a composition is worth: baselines, left-out losses, verdict, ablation, export and report."""
