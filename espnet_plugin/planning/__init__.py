"""What a pipeline costs, and whether this machine can pay it: plan, doctor (L3)."""
