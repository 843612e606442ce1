"""What the inspectors show of a run folder, as plain functions without widgets."""
