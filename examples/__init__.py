"""Programs that use picante."""
